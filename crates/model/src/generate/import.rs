//! What happens to a GGUF file when it is installed: its main type is read, and Q4_1 becomes Q8_0.
//!
//! llama.cpp has no packed kernels for Q4_1; Q8_0 reads prompts about twice as fast on two CPU threads and loses
//! nothing, at half as much file again.

use super::{quantise::quantise_to, silence};
use llama_cpp_2::gguf::GgufContext;
use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
};
use understudy_core::{Error, Result};

/// The main tensor type of a GGUF file (`general.file_type`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(non_camel_case_types, reason = "the names are llama.cpp's")]
#[expect(missing_docs, reason = "the names are llama.cpp's")]
pub enum FileType {
    F32,
    F16,
    BF16,
    Q8_0,
    Q6_K,
    Q5_K_M,
    Q5_K_S,
    Q5_1,
    Q5_0,
    Q4_K_M,
    Q4_K_S,
    Q4_1,
    Q4_0,
    IQ4_NL,
    IQ4_XS,
    Q3_K_L,
    Q3_K_M,
    Q3_K_S,
    IQ3_M,
    IQ3_S,
    IQ3_XS,
    IQ3_XXS,
    Q2_K,
    Q2_K_S,
    Q2_0,
    IQ2_M,
    IQ2_S,
    IQ2_XS,
    IQ2_XXS,
    IQ1_M,
    IQ1_S,
    Q1_0,
    TQ2_0,
    TQ1_0,
    MXFP4,
    /// Another one, by llama.cpp's number.
    Other(u32),
}

impl FileType {
    /// From more bits to fewer.
    const NAMED: [(Self, u32, &'static str); 35] = [
        (Self::F32, llama_cpp_sys_2::LLAMA_FTYPE_ALL_F32, "F32"),
        (Self::F16, llama_cpp_sys_2::LLAMA_FTYPE_MOSTLY_F16, "F16"),
        (Self::BF16, llama_cpp_sys_2::LLAMA_FTYPE_MOSTLY_BF16, "BF16"),
        (Self::Q8_0, llama_cpp_sys_2::LLAMA_FTYPE_MOSTLY_Q8_0, "Q8_0"),
        (Self::Q6_K, llama_cpp_sys_2::LLAMA_FTYPE_MOSTLY_Q6_K, "Q6_K"),
        (Self::Q5_K_M, llama_cpp_sys_2::LLAMA_FTYPE_MOSTLY_Q5_K_M, "Q5_K_M"),
        (Self::Q5_K_S, llama_cpp_sys_2::LLAMA_FTYPE_MOSTLY_Q5_K_S, "Q5_K_S"),
        (Self::Q5_1, llama_cpp_sys_2::LLAMA_FTYPE_MOSTLY_Q5_1, "Q5_1"),
        (Self::Q5_0, llama_cpp_sys_2::LLAMA_FTYPE_MOSTLY_Q5_0, "Q5_0"),
        (Self::Q4_K_M, llama_cpp_sys_2::LLAMA_FTYPE_MOSTLY_Q4_K_M, "Q4_K_M"),
        (Self::Q4_K_S, llama_cpp_sys_2::LLAMA_FTYPE_MOSTLY_Q4_K_S, "Q4_K_S"),
        (Self::Q4_1, llama_cpp_sys_2::LLAMA_FTYPE_MOSTLY_Q4_1, "Q4_1"),
        (Self::Q4_0, llama_cpp_sys_2::LLAMA_FTYPE_MOSTLY_Q4_0, "Q4_0"),
        (Self::IQ4_NL, llama_cpp_sys_2::LLAMA_FTYPE_MOSTLY_IQ4_NL, "IQ4_NL"),
        (Self::IQ4_XS, llama_cpp_sys_2::LLAMA_FTYPE_MOSTLY_IQ4_XS, "IQ4_XS"),
        (Self::Q3_K_L, llama_cpp_sys_2::LLAMA_FTYPE_MOSTLY_Q3_K_L, "Q3_K_L"),
        (Self::Q3_K_M, llama_cpp_sys_2::LLAMA_FTYPE_MOSTLY_Q3_K_M, "Q3_K_M"),
        (Self::Q3_K_S, llama_cpp_sys_2::LLAMA_FTYPE_MOSTLY_Q3_K_S, "Q3_K_S"),
        (Self::IQ3_M, llama_cpp_sys_2::LLAMA_FTYPE_MOSTLY_IQ3_M, "IQ3_M"),
        (Self::IQ3_S, llama_cpp_sys_2::LLAMA_FTYPE_MOSTLY_IQ3_S, "IQ3_S"),
        (Self::IQ3_XS, llama_cpp_sys_2::LLAMA_FTYPE_MOSTLY_IQ3_XS, "IQ3_XS"),
        (Self::IQ3_XXS, llama_cpp_sys_2::LLAMA_FTYPE_MOSTLY_IQ3_XXS, "IQ3_XXS"),
        (Self::Q2_K, llama_cpp_sys_2::LLAMA_FTYPE_MOSTLY_Q2_K, "Q2_K"),
        (Self::Q2_K_S, llama_cpp_sys_2::LLAMA_FTYPE_MOSTLY_Q2_K_S, "Q2_K_S"),
        (Self::Q2_0, llama_cpp_sys_2::LLAMA_FTYPE_MOSTLY_Q2_0, "Q2_0"),
        (Self::IQ2_M, llama_cpp_sys_2::LLAMA_FTYPE_MOSTLY_IQ2_M, "IQ2_M"),
        (Self::IQ2_S, llama_cpp_sys_2::LLAMA_FTYPE_MOSTLY_IQ2_S, "IQ2_S"),
        (Self::IQ2_XS, llama_cpp_sys_2::LLAMA_FTYPE_MOSTLY_IQ2_XS, "IQ2_XS"),
        (Self::IQ2_XXS, llama_cpp_sys_2::LLAMA_FTYPE_MOSTLY_IQ2_XXS, "IQ2_XXS"),
        (Self::IQ1_M, llama_cpp_sys_2::LLAMA_FTYPE_MOSTLY_IQ1_M, "IQ1_M"),
        (Self::IQ1_S, llama_cpp_sys_2::LLAMA_FTYPE_MOSTLY_IQ1_S, "IQ1_S"),
        (Self::Q1_0, llama_cpp_sys_2::LLAMA_FTYPE_MOSTLY_Q1_0, "Q1_0"),
        (Self::TQ2_0, llama_cpp_sys_2::LLAMA_FTYPE_MOSTLY_TQ2_0, "TQ2_0"),
        (Self::TQ1_0, llama_cpp_sys_2::LLAMA_FTYPE_MOSTLY_TQ1_0, "TQ1_0"),
        (Self::MXFP4, llama_cpp_sys_2::LLAMA_FTYPE_MOSTLY_MXFP4_MOE, "MXFP4"),
    ];

    /// Every type that llama.cpp's quantiser writes, from more bits to fewer. (NVFP4 files are read, but not written.)
    pub fn all() -> impl Iterator<Item = Self> {
        Self::NAMED.iter().map(|row| row.0)
    }

    /// The type of this name, in any case.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::NAMED.iter().find(|row| row.2.eq_ignore_ascii_case(name)).map(|row| row.0)
    }

    /// True for types that llama.cpp only makes with an importance matrix.
    #[must_use]
    pub fn needs_importance(self) -> bool {
        matches!(
            self,
            Self::IQ3_XXS
                | Self::IQ3_XS
                | Self::IQ2_M
                | Self::IQ2_S
                | Self::IQ2_XS
                | Self::IQ2_XXS
                | Self::IQ1_M
                | Self::IQ1_S
                | Self::Q2_K_S
        )
    }

    /// llama.cpp's number of the type.
    #[must_use]
    pub fn code(self) -> u32 {
        match self {
            Self::Other(code) => code,
            named => Self::NAMED.iter().find(|row| row.0 == named).expect("every named type has a row").1,
        }
    }

    fn from_code(code: u32) -> Self {
        Self::NAMED.iter().find(|row| row.1 == code).map_or(Self::Other(code), |row| row.0)
    }
}

impl fmt::Display for FileType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match Self::NAMED.iter().find(|row| row.0 == *self) {
            Some(row) => f.pad(row.2),
            None => write!(f, "type {}", self.code()),
        }
    }
}

/// A GGUF file that is ready to be loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Imported {
    /// The file to load.
    pub path: PathBuf,
    /// Its main type; `None` when the file does not say.
    pub file_type: Option<FileType>,
    /// The file that `path` was made from, when it was requantised. It is no longer needed; deleting it is up to the
    /// caller.
    pub replaced: Option<PathBuf>,
}

/// Reads the main type of the GGUF file at `path`; `None` when the file does not say.
///
/// # Errors
/// `NotFound` when there is no such file, `Data` when it is not GGUF.
pub fn file_type(path: &Path) -> Result<Option<FileType>> {
    silence();
    if !path.is_file() {
        return Err(Error::not_found(format!("read {}: there is no such file", path.display())));
    }
    let header = GgufContext::from_file(path).ok_or_else(|| {
        Error::data(format!("read {}: it is not a complete GGUF file; download it again", path.display()))
    })?;
    let key = header.find_key("general.file_type");
    // llama.cpp ends the process when the stored type is another one.
    if key < 0 || header.kv_type(key) != llama_cpp_sys_2::GGUF_TYPE_UINT32 {
        return Ok(None);
    }
    Ok(Some(FileType::from_code(header.val_u32(key))))
}

/// Makes the GGUF file at `path` ready: a Q4_1 file is written as Q8_0 beside it (`x.Q4_1.gguf` → `x.Q8_0.gguf`), any
/// other is used as it is. Called again, it finds the earlier result. Atomic; takes seconds per 100 million parameters.
///
/// # Errors
/// `NotFound` or `Data` as [`file_type`]; `Data` when requantising fails, `Internal` when the disk does.
pub fn import_gguf(path: &Path) -> Result<Imported> {
    let file_type = file_type(path)?;
    if file_type != Some(FileType::Q4_1) {
        return Ok(Imported { path: path.to_owned(), file_type, replaced: None });
    }
    let stem = path.file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default();
    let base =
        ["Q4_1", "q4_1"].iter().find_map(|end| stem.strip_suffix(end)).map(|s| s.trim_end_matches(['.', '-', '_']));
    let target = path.with_file_name(format!("{}.Q8_0.gguf", base.unwrap_or(&stem)));
    if self::file_type(&target).ok().flatten() != Some(FileType::Q8_0) {
        quantise(path, &target, FileType::Q8_0, &Importance::new())?;
    }
    Ok(Imported { path: target, file_type: Some(FileType::Q8_0), replaced: Some(path.to_owned()) })
}

/// How much each column of a matrix counts when it is quantised: the mean square of what it is multiplied with, by the
/// tensor's name.
pub type Importance = BTreeMap<String, Vec<f32>>;

/// Writes the model in `source` to `target` in another type, requantising what is quantised. `target` appears when it
/// is complete, or not at all. `importance` weighs the columns; an empty one leaves all alike.
///
/// # Errors
/// `Data` when `source` is not a GGUF model or `to` cannot be made from it, `Internal` when the disk is full or
/// read-only.
pub fn quantise(source: &Path, target: &Path, to: FileType, importance: &Importance) -> Result<()> {
    file_type(source)?;
    let disk = |e: std::io::Error| Error::internal(format!("write {}: {e}", target.display()));
    let folder = target.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let partial = tempfile::Builder::new().prefix(".quantise-").suffix(".gguf").tempfile_in(folder).map_err(disk)?;
    let threads = std::thread::available_parallelism().map_or(1, |n| i32::try_from(n.get()).unwrap_or(1));
    quantise_to(source, partial.path(), to, importance, threads)?;
    partial.as_file().sync_all().map_err(disk)?;
    let file = partial.persist(target).map_err(|e| disk(e.error))?;
    // A temporary file is private to its owner; a model is not.
    #[cfg(unix)]
    file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644)).map_err(disk)?;
    drop(file);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_named_type_has_its_own_code_and_name() {
        for (file_type, code, name) in FileType::NAMED {
            assert_eq!(FileType::from_code(code), file_type);
            assert_eq!(file_type.to_string(), name);
            assert_eq!(FileType::named(&name.to_lowercase()), Some(file_type));
        }
        assert_eq!(FileType::from_code(999).code(), 999);
    }

    #[test]
    fn a_file_that_is_not_gguf_is_refused() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("x.gguf");
        assert_eq!(file_type(&path).expect_err("missing").kind(), understudy_core::ErrorKind::NotFound);
        std::fs::write(&path, b"GGUF but cut").expect("writable");
        assert_eq!(import_gguf(&path).expect_err("damaged").kind(), understudy_core::ErrorKind::Data);
        assert!(quantise(&path, &folder.path().join("y.gguf"), FileType::Q8_0, &Importance::new()).is_err());
        assert_eq!(std::fs::read_dir(folder.path()).expect("readable").count(), 1, "nothing is left behind");
    }
}
