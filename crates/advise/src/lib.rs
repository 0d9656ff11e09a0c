//! Small, large or both? The decision framework, what it costs, and what traffic would have cost.
