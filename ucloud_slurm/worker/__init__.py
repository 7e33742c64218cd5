"""One pass: submit what is owed, watch, tell, charge, stop."""
