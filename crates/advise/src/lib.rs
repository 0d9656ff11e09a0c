//! Should this be small, large or both? The decision framework, exact costs, total cost of ownership, break-even by
//! volume, the field's published cost examples recomputed, and the forecast of what a hybrid would cost and how fast
//! it would be.
//!
//! Pure arithmetic over answers, prices and recorded rows: it measures nothing itself, prints nothing and reads no
//! files. The `cli` asks the questions, brings the measurements and draws the page.

pub mod answers;
pub mod break_even;
pub mod cost;
pub mod costs;
pub mod examples;
pub mod fit;
pub mod forecast;
pub mod framework;
pub mod ownership;
pub mod use_cases;

pub use answers::{Answers, Profile};
pub use break_even::{BreakEven, break_even};
pub use cost::{Span, bill};
pub use forecast::{Forecast, Observed, forecast};
pub use framework::{Advice, Choice, advise};
pub use ownership::{Assumptions, Ownership, ownership};
