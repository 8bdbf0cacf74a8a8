// Package gather runs the single commands of concurrent callers together, as
// pipelines, where go-redis would take each of them through its pool alone.
//
// A [Gatherer] has one chain for each client: what its hook chain calls at the end for
// a command, and for a pipeline. A command goes straight on while few callers are
// inside, or while batches stay small. From some on it joins the batch that is gathering;
// that takes off as soon as one of the few that may be under way has ended, so that how
// much is gathered comes from back-pressure; or as soon as it is full, or as no more callers
// come along if the server is far. A timer looks after flights that stand still.
//
// These hold:
//
//   - A batch is of one chain, and of commands for which the same is true when they are
//     lost: those that must not run twice are with none that may. Reads are with no
//     writes, which a server may hold back for a while (CLIENT PAUSE WRITE).
//   - No batch is run again. A command that had an error after which go-redis would try
//     again goes on alone, as it would have done from the start.
//   - A command of a caller that may leave (its context can be canceled) is a copy in
//     the batch; the caller takes the result over when it is still there.
//   - What could make others wait, or spoil their replies, goes straight on: commands
//     that aren't in the table of this package or whose result is of another type than
//     the table's, arguments that are large or run code of the user's when they are
//     written, and keys whose last reply was large.
package gather
