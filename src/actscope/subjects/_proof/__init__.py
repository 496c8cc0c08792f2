"""What must hold of a subject's sites if each of them is what its name says."""
