//! Data sets: rows of text with labels, references or conversations, read from the formats that teams have, cleaned
//! and divided.
