//! Files of weights from elsewhere: from torch's cache or a mirror, else downloaded, once for all pipelines.

use std::env;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use pipe_vocab::{atomic, cache};
use sha2::{Digest, Sha256};
use ureq::tls::{RootCerts, TlsConfig};

/// From where torchvision's own programs load.
const PUBLISHED: &str = "https://download.pytorch.org/models";
/// The variable that names another place: a URL or a folder.
pub const MIRROR: &str = "PIPE_WEIGHTS_MIRROR";
/// How often in a row a download may break off without having brought anything.
const ATTEMPTS: u32 = 4;
/// One request at the most: what stalls is asked for again.
const PATIENCE: Duration = Duration::from_secs(600);
/// How often progress is told.
const TOLD_EVERY: Duration = Duration::from_secs(5);

/// Where weights may be.
#[derive(Debug, Clone)]
pub struct Places {
    /// The program's own cache.
    pub cache: PathBuf,
    /// `hub/checkpoints` of torch, which other programs fill.
    pub torch: Option<PathBuf>,
    /// The URL of a folder, or a folder, without the slash at the end.
    pub source: String,
}

impl Places {
    /// As the environment says: `PIPE_CACHE`, `TORCH_HOME`, [`MIRROR`].
    ///
    /// # Errors
    /// When there is no folder for the cache.
    pub fn of_environment() -> Result<Places> {
        let variable = |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let torch = variable("TORCH_HOME")
            .or_else(|| variable("XDG_CACHE_HOME").map(|folder| folder.join("torch")))
            .or_else(|| variable("HOME").map(|home| home.join(".cache/torch")));
        let mirror = variable(MIRROR).map(|mirror| mirror.to_string_lossy().trim_end_matches('/').to_owned());
        Ok(Places {
            cache: cache::dir()?.join("weights"),
            torch: torch.map(|folder| folder.join("hub/checkpoints")),
            source: mirror.unwrap_or_else(|| PUBLISHED.to_owned()),
        })
    }
}

/// What is told meanwhile.
pub type Tell<'a> = &'a mut dyn FnMut(String);

/// The path of a file whose name ends with the first digits of its SHA-256 (`resnet18-f37072fd.pth`), downloaded if need be.
///
/// An interrupted download goes on where it was. Of several processes one downloads, the others wait for it.
///
/// # Errors
/// When it can be had nowhere, is not what its name says, or cannot be written.
pub fn fetch(file: &str, places: &Places, tell: Tell<'_>) -> Result<PathBuf> {
    let target = places.cache.join(file);
    if target.exists() {
        return Ok(target);
    }
    if let Some(found) = places.torch.as_ref().map(|folder| folder.join(file)).filter(|path| path.exists()) {
        if is_right(&found)? {
            return Ok(found);
        }
        tell(format!("{} is not what its name says (SHA-256): it is passed over", found.display()));
    }
    if !places.source.contains("://") {
        let found = Path::new(&places.source).join(file);
        ensure!(found.exists(), "{} has no {file} ({MIRROR})", places.source);
        ensure!(is_right(&found)?, "{} is not what its name says (SHA-256): get it anew", found.display());
        return Ok(found);
    }
    fs::create_dir_all(&places.cache).with_context(|| format!("cannot create {}", places.cache.display()))?;
    let part = places.cache.join(format!("{file}.part"));
    let url = format!("{}/{file}", places.source);
    let way = || {
        format!(
            "cannot download {url}; where there is no network, put the file into {} by hand, or name a folder or another URL \
             in {MIRROR}",
            places.cache.display()
        )
    };
    download(&url, &part, &target, tell).with_context(way)?;
    Ok(target)
}

fn download(url: &str, part: &Path, target: &Path, tell: Tell<'_>) -> Result<()> {
    let at_part = || format!("cannot write {}", part.display());
    let mut file = OpenOptions::new().create(true).append(true).read(true).open(part).with_context(at_part)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            tell(format!("another process downloads {}: waiting for it", target.display()));
            file.lock().with_context(at_part)?;
        }
        Err(TryLockError::Error(error)) => return Err(error).with_context(at_part),
    }
    if target.exists() {
        return Ok(());
    }
    let mut broken = 0;
    loop {
        let before = file.metadata()?.len();
        match request(url, &mut file, before, tell) {
            Ok(()) => break,
            Err(Broken::For(error)) => return Err(error),
            Err(Broken::Off(error)) => {
                broken = if file.metadata()?.len() > before { 1 } else { broken + 1 };
                if broken >= ATTEMPTS {
                    return Err(error);
                }
                tell(format!("the download broke off ({error:#}): it goes on"));
                std::thread::sleep(Duration::from_millis(200 << broken));
            }
        }
    }
    file.sync_all().with_context(at_part)?;
    if !is_right_of(part, target)? {
        fs::remove_file(part).with_context(at_part)?;
        bail!(
            "what came is not what was published (SHA-256), and was removed: something on the way changes files, or the mirror is wrong"
        );
    }
    fs::rename(part, target).with_context(|| format!("cannot write {}", target.display()))?;
    target.parent().map_or(Ok(()), atomic::sync_folder)
}

/// Why a request brought no whole file.
enum Broken {
    /// The connection: it may be tried again.
    Off(anyhow::Error),
    /// The answer, or the disk.
    For(anyhow::Error),
}

/// Asks for what is missing behind the first `have` bytes, and appends it.
fn request(url: &str, file: &mut File, have: u64, tell: Tell<'_>) -> Result<(), Broken> {
    let tls = TlsConfig::builder().root_certs(RootCerts::PlatformVerifier).build();
    let config = ureq::Agent::config_builder().tls_config(tls).timeout_connect(Some(Duration::from_secs(30)));
    let config = config.timeout_recv_response(Some(Duration::from_secs(60))).timeout_recv_body(Some(PATIENCE));
    let agent = config.http_status_as_error(false).build().new_agent();
    let mut asked = agent.get(url);
    if have > 0 {
        asked = asked.header("Range", format!("bytes={have}-"));
    }
    let mut answer = asked.call().map_err(|error| Broken::Off(error.into()))?;
    let status = answer.status().as_u16();
    let have = match status {
        206 => have,
        // Whole, whatever was asked for.
        200 => {
            file.set_len(0).map_err(|error| Broken::For(error.into()))?;
            0
        }
        // There is no more: the sum tells.
        416 if have > 0 => return Ok(()),
        408 | 429 | 500.. => return Err(Broken::Off(anyhow!("the server answers {}", answer.status()))),
        _ => return Err(Broken::For(anyhow!("the server answers {}", answer.status()))),
    };
    let length = answer.headers().get("content-length").and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    let whole = length.map(|length| have + length);
    tell(format!("downloading {url}{}", whole.map(|bytes| format!(" ({} MB)", bytes / 1_000_000)).unwrap_or_default()));
    let mut body = answer.body_mut().with_config().limit(u64::MAX).reader();
    let (mut buffer, mut done, mut told) = (vec![0; 1 << 16], have, Instant::now());
    loop {
        let read = body.read(&mut buffer).map_err(|error| Broken::Off(error.into()))?;
        if read == 0 {
            break;
        }
        file.write_all(&buffer[..read]).map_err(|error| Broken::For(error.into()))?;
        done += read as u64;
        if let Some(whole) = whole.filter(|_| told.elapsed() > TOLD_EVERY) {
            tell(format!("{} of {} MB", done / 1_000_000, whole / 1_000_000));
            told = Instant::now();
        }
    }
    match whole {
        Some(whole) if done < whole => Err(Broken::Off(anyhow!("{done} of {whole} bytes came"))),
        _ => Ok(()),
    }
}

fn is_right(path: &Path) -> Result<bool> {
    is_right_of(path, path)
}

/// Whether a file has the SHA-256 that ends a name.
fn is_right_of(path: &Path, named: &Path) -> Result<bool> {
    let stem = named.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let digits = stem.rsplit_once('-').map(|(_, digits)| digits).unwrap_or_default();
    ensure!(digits.len() == 8, "{} does not end with digits of its SHA-256", named.display());
    let at = || format!("cannot read {}", path.display());
    let mut file = File::open(path).with_context(at)?;
    let (mut hasher, mut buffer) = (Sha256::new(), vec![0; 1 << 20]);
    loop {
        let read = file.read(&mut buffer).with_context(at)?;
        if read == 0 {
            let sum: String = hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
            return Ok(sum.starts_with(digits));
        }
        hasher.update(&buffer[..read]);
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};
    use std::net::{TcpListener, TcpStream};
    use std::sync::{Arc, Mutex};

    use super::*;

    /// What the server does with a request.
    #[derive(Clone, Copy)]
    enum Answer {
        /// As asked.
        Well,
        /// Breaks off after so many bytes.
        Cut(usize),
        /// Sends everything, whatever was asked for.
        Whole,
        Status(u16),
    }

    /// A server of one file on the loopback interface; hands back the ranges that were asked for.
    fn serve(content: Vec<u8>, answers: Vec<Answer>) -> (String, Arc<Mutex<Vec<String>>>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let ranges = asked.clone();
        std::thread::spawn(move || {
            for answer in answers {
                let (stream, _) = listener.accept().unwrap();
                ranges.lock().unwrap().push(reply(stream, &content, answer));
            }
        });
        (url, asked)
    }

    fn reply(mut stream: TcpStream, content: &[u8], answer: Answer) -> String {
        let mut range = String::new();
        for line in BufReader::new(stream.try_clone().unwrap()).lines() {
            let line = line.unwrap().to_ascii_lowercase();
            if let Some(asked) = line.strip_prefix("range: ") {
                range = asked.to_owned();
            }
            if line.is_empty() {
                break;
            }
        }
        let from = range.strip_prefix("bytes=").and_then(|range| range.trim_end_matches('-').parse().ok());
        let (status, body) = match (answer, from) {
            (Answer::Status(status), _) => (status, &content[..0]),
            (Answer::Whole, _) | (_, None) => (200, content),
            (_, Some(from)) if from >= content.len() => (416, &content[..0]),
            (_, Some(from)) => (206, &content[from..]),
        };
        let sent = if let Answer::Cut(sent) = answer { &body[..sent] } else { body };
        let head = format!("HTTP/1.1 {status} x\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
        stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(sent)).unwrap();
        range
    }

    fn name_of(content: &[u8]) -> String {
        let sum: String = Sha256::digest(content).iter().map(|byte| format!("{byte:02x}")).collect();
        format!("net-{}.pth", &sum[..8])
    }

    struct Trial {
        folder: tempfile::TempDir,
        places: Places,
        file: String,
        asked: Arc<Mutex<Vec<String>>>,
    }

    impl Trial {
        fn new(answers: &[Answer]) -> Trial {
            let content: Vec<u8> = (0..300_000u32).flat_map(u32::to_le_bytes).collect();
            let folder = tempfile::tempdir().unwrap();
            let file = name_of(&content);
            let (source, asked) = serve(content, answers.to_vec());
            let places = Places { cache: folder.path().join("cache"), torch: Some(folder.path().join("hub")), source };
            Trial { folder, places, file, asked }
        }

        fn fetch(&self) -> Result<PathBuf> {
            fetch(&self.file, &self.places, &mut |_| {})
        }

        fn asked(&self) -> Vec<String> {
            self.asked.lock().unwrap().clone()
        }
    }

    #[test]
    fn a_file_is_downloaded_once() {
        let trial = Trial::new(&[Answer::Well]);
        let path = trial.fetch().unwrap();
        assert_eq!(path, trial.places.cache.join(&trial.file));
        assert_eq!(trial.fetch().unwrap(), path);
        assert_eq!(trial.asked(), [""], "the second time it was there");
        assert_eq!(fs::read_dir(&trial.places.cache).unwrap().count(), 1, "nothing is left beside it");
    }

    #[test]
    fn what_breaks_off_goes_on_where_it_was() {
        let trial = Trial::new(&[Answer::Cut(500_000), Answer::Status(503), Answer::Cut(100_000), Answer::Well]);
        assert!(is_right(&trial.fetch().unwrap()).unwrap());
        assert_eq!(trial.asked(), ["", "bytes=500000-", "bytes=500000-", "bytes=600000-"]);
        let trial = Trial::new(&[Answer::Cut(500_000), Answer::Whole]);
        assert!(is_right(&trial.fetch().unwrap()).unwrap(), "also of a server without ranges");
    }

    #[test]
    fn a_killed_download_goes_on_in_the_next_process() {
        let trial = Trial::new(&[Answer::Well]);
        fs::create_dir_all(&trial.places.cache).unwrap();
        let part: Vec<u8> = (0..10u32).flat_map(u32::to_le_bytes).collect();
        fs::write(trial.places.cache.join(format!("{}.part", trial.file)), part).unwrap();
        assert!(is_right(&trial.fetch().unwrap()).unwrap());
        assert_eq!(trial.asked(), ["bytes=40-"]);
    }

    #[test]
    fn other_content_is_refused_and_not_kept() {
        let mut trial = Trial::new(&[Answer::Well, Answer::Well]);
        trial.file = "net-00000000.pth".into();
        let error = format!("{:#}", trial.fetch().unwrap_err());
        assert!(
            error.contains("cannot download http") && error.contains("not what was published (SHA-256)"),
            "{error}"
        );
        assert!(error.contains(MIRROR), "{error}");
        assert_eq!(fs::read_dir(&trial.places.cache).unwrap().count(), 0);
        trial.fetch().unwrap_err();
        assert_eq!(trial.asked(), ["", ""], "from the beginning");
    }

    #[test]
    fn a_refusal_is_not_asked_for_again() {
        let trial = Trial::new(&[Answer::Status(404)]);
        let error = format!("{:#}", trial.fetch().unwrap_err());
        assert!(error.ends_with("the server answers 404 Not Found"), "{error}");
        assert_eq!(trial.asked().len(), 1);
    }

    #[test]
    fn torchs_cache_and_a_folder_are_used_in_place() {
        let mut trial = Trial::new(&[Answer::Well]);
        let (hub, mirror) = (trial.folder.path().join("hub"), trial.folder.path().join("mirror"));
        fs::create_dir_all(&hub).unwrap();
        fs::write(hub.join(&trial.file), "damaged").unwrap();
        let mut told = Vec::new();
        let whole = fetch(&trial.file, &trial.places, &mut |line| told.push(line)).unwrap();
        assert!(told[0].contains("is passed over"), "{told:?}");
        fs::copy(&whole, hub.join(&trial.file)).unwrap();
        fs::create_dir_all(&mirror).unwrap();
        fs::rename(&whole, mirror.join(&trial.file)).unwrap();
        assert_eq!(trial.fetch().unwrap(), hub.join(&trial.file));
        fs::remove_dir_all(&hub).unwrap();
        trial.places.source = mirror.display().to_string();
        assert_eq!(trial.fetch().unwrap(), mirror.join(&trial.file));
        fs::write(mirror.join(&trial.file), "damaged").unwrap();
        assert!(trial.fetch().unwrap_err().to_string().contains("not what its name says"));
        fs::remove_file(mirror.join(&trial.file)).unwrap();
        assert!(trial.fetch().unwrap_err().to_string().contains("has no net-"));
    }
}
