//! Hard constraints: what a model cannot take, it is not asked, whatever any score says.

use crate::plan::Reason;
use understudy_core::{Capabilities, Place, Request, TaskSpec, task::Privacy};

/// Bytes per token, on the generous side (English has about four): this check happens before anything is tokenised
/// and only turns away what cannot fit. A model that tokenises checks again, exactly.
const BYTES_PER_TOKEN: usize = 6;

/// The first constraint that keeps this model from answering, or `None` when it may be asked.
#[must_use]
pub fn obstacle(capabilities: &Capabilities, request: &Request, task: Option<&TaskSpec>) -> Option<Reason> {
    let needs = &request.needs;
    if capabilities.place == Place::Remote && task.is_some_and(|task| task.privacy == Privacy::LocalOnly) {
        return Some(Reason::Privacy);
    }
    if let Some(limit) = capabilities.context_tokens {
        let least_tokens = request.text_bytes() / BYTES_PER_TOKEN;
        if least_tokens > limit as usize {
            return Some(Reason::Context);
        }
    }
    if needs.multimodal && !capabilities.multimodal {
        return Some(Reason::Modality);
    }
    if needs.tools && !capabilities.tools {
        return Some(Reason::Tools);
    }
    if needs.many_choices && !capabilities.many_choices {
        return Some(Reason::ManyChoices);
    }
    let spoken = |languages: &[String]| {
        capabilities.languages.is_empty() || languages.iter().all(|l| capabilities.languages.contains(l))
    };
    if task.is_some_and(|task| !spoken(&task.languages)) {
        return Some(Reason::Language);
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::tests::{local, remote, request, task};

    #[test]
    fn each_constraint_is_named() {
        let mut private = task();
        private.privacy = Privacy::LocalOnly;
        assert_eq!(obstacle(&remote(), &request(), Some(&private)), Some(Reason::Privacy));
        assert_eq!(obstacle(&local(), &request(), Some(&private)), None);

        let mut german = task();
        german.languages = vec!["de".into()];
        let english = Capabilities { languages: vec!["en".into()], ..local() };
        assert_eq!(obstacle(&english, &request(), Some(&german)), Some(Reason::Language));

        let short = Capabilities { context_tokens: Some(0), ..local() };
        assert_eq!(obstacle(&short, &request(), None), Some(Reason::Context));

        let mut asked = request();
        asked.needs.many_choices = true;
        assert_eq!(obstacle(&local(), &asked, None), Some(Reason::ManyChoices));
        asked.needs.tools = true;
        assert_eq!(obstacle(&local(), &asked, None), Some(Reason::Tools));
        asked.needs.multimodal = true;
        assert_eq!(obstacle(&local(), &asked, None), Some(Reason::Modality));
    }
}
