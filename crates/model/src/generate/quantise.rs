//! Quantisation of GGUF files. The one place of this crate with unsafe code: `llama-cpp-2` wraps neither the
//! quantiser nor its parameters.
#![expect(unsafe_code, reason = "llama_model_quantize exists only in the raw bindings")]

use super::import::{FileType, Importance};
use std::{ffi::CString, path::Path};
use understudy_core::{Error, Result};

/// Writes the model in `source` to `target` as `to`. `target` is incomplete when this fails.
pub(super) fn quantise_to(
    source: &Path,
    target: &Path,
    to: FileType,
    importance: &Importance,
    threads: i32,
) -> Result<()> {
    let c_path = |path: &Path| {
        path.to_str().and_then(|text| CString::new(text).ok()).ok_or_else(|| {
            Error::invalid(format!("quantise {}: rename it, llama.cpp needs a path in UTF-8", path.display()))
        })
    };
    let (from, into) = (c_path(source)?, c_path(target)?);
    // SAFETY: the function takes nothing and returns a plain struct by value.
    let mut params = unsafe { llama_cpp_sys_2::llama_model_quantize_default_params() };
    params.ftype = to.code();
    params.nthread = threads;
    params.allow_requantize = true;
    let named = importance.keys().map(|name| CString::new(name.as_str())).collect::<std::result::Result<Vec<_>, _>>();
    let named = named.map_err(|_| Error::invalid("quantise: a tensor's name contains a zero byte"))?;
    let entry = |name, data, size| llama_cpp_sys_2::llama_model_imatrix_data { name, data, size };
    let mut weights: Vec<_> =
        named.iter().zip(importance.values()).map(|(name, x)| entry(name.as_ptr(), x.as_ptr(), x.len())).collect();
    weights.push(entry(std::ptr::null(), std::ptr::null(), 0));
    if !importance.is_empty() {
        params.imatrix = weights.as_ptr();
    }
    // SAFETY: both strings are NUL-terminated and outlive the call; `params` comes from llama.cpp's own defaults, so
    // its other pointers are null, which the function takes as "not given"; `imatrix` points at entries that end with one
    // without a name, whose names and numbers (`named`, `importance`) outlive the call; the function keeps no pointer
    // after it returns, and turns its C++ exceptions into a return code other than 0.
    let code = unsafe { llama_cpp_sys_2::llama_model_quantize(from.as_ptr(), into.as_ptr(), &raw const params) };
    if code == 0 {
        Ok(())
    } else {
        Err(Error::data(format!(
            "quantise {} to {to}: llama.cpp refused it (code {code}); check that it is a complete GGUF model",
            source.display()
        )))
    }
}
