package testkit

import "sync"

// faultDir is how far one direction of a faultConn has come, and which of its
// faults are still ahead.
type faultDir struct {
	mu       sync.Mutex
	off      int64       // bytes of the undisturbed stream that have passed
	faults   []ByteFault // ahead, by offset
	end      *ByteFault  // the fault that ended this direction
	slice    int         // size of the pieces; 0: as they come
	dropping int         // bytes still to lose
	doubling int         // bytes still to collect in double
	double   []byte
	pending  []byte // injected, and not yet read
}

// due starts the faults at this offset. It returns what comes in between
// here, and the fault that ends this direction, if one has.
func (d *faultDir) due() (injected []byte, end *ByteFault) {
	if d.doubling == 0 && len(d.double) > 0 {
		injected, d.double = d.double, nil
	}
	for d.end == nil && len(d.faults) > 0 && d.faults[0].At <= d.off {
		f := d.faults[0]
		d.faults = d.faults[1:]
		switch f.Kind {
		case FaultSlice:
			d.slice = max(f.N, 1)
		case FaultDuplicate:
			d.doubling = max(f.N, 1)
		case FaultDrop:
			d.dropping = max(f.N, 1)
		case FaultInsert, FaultPush:
			injected = append(injected, f.Data...)
		default:
			d.end = &f
		}
	}
	return injected, d.end
}

// run returns how many of the next n bytes pass before anything changes.
func (d *faultDir) run(n int) int {
	if d.dropping > 0 {
		n = min(n, d.dropping)
	}
	if d.doubling > 0 {
		n = min(n, d.doubling)
	}
	if len(d.faults) > 0 {
		n = int(min(int64(n), d.faults[0].At-d.off))
	}
	return n
}

// piece returns how many of n bytes may be moved in one call.
func (d *faultDir) piece(n int) int {
	if d.slice > 0 {
		return min(n, d.slice)
	}
	return n
}

// passed counts b, which is within one run.
func (d *faultDir) passed(b []byte) {
	d.off += int64(len(b))
	d.dropping = max(d.dropping-len(b), 0)
	if d.doubling > 0 {
		d.double = append(d.double, b...)
		d.doubling -= len(b)
	}
}
