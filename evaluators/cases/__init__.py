"""What problems share whose candidates are one function, called on one case after the other."""
