package flightcheck

// Added is added, for a test.
var Added = added
