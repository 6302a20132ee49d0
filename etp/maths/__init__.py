"""Mathematics: coupling coefficients, rotations, exact grids; float64 tables."""
