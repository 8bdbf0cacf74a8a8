package driver

import "github.com/everpool/everpool/internal/handle"

// Vetoes says whether handles refuse to be used again while their node is away.
const Vetoes = handle.Vetoes
