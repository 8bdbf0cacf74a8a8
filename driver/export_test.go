package driver

// Vetoes says whether handles refuse to be used again while their node is away.
const Vetoes = vetoes
