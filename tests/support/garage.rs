//! A real S3 store for the tests: one Garage server for the whole test binary, on loopback, with a bucket and a key.
//! `run-tests` installs the program.

use super::closing::free_port;
use super::janitor;
use super::proxy::Proxy;
use std::fs;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{LazyLock, Mutex};
use std::time::{Duration, Instant};

/// The bucket that is there.
pub(crate) const BUCKET: &str = "relay-backups";
const ACCESS_KEY: &str = "GK31c2f218a2e44f485b94239e";
/// How long the server may take until it answers; it exists to end a hang.
const PATIENCE: Duration = Duration::from_secs(120);

/// One server for all tests that never stop it.
pub(crate) static GARAGE: LazyLock<Garage> = LazyLock::new(Garage::for_all_tests);

/// A server with its data, which outlives a stop; wiped when dropped.
pub(crate) struct Garage {
    folder: tempfile::TempDir,
    port: u16,
    server: Mutex<Option<Child>>,
}

impl Garage {
    /// The secret half of the bucket's key.
    pub(crate) const SECRET_KEY: &str = "b892c0665f0ada8a4755dae98baa3b133590e11dae3bcc1f9d769d67f16c3835";

    /// A fresh server that runs.
    pub(crate) fn start() -> Self {
        let folder = tempfile::Builder::new().prefix("rb-garage-").tempdir().unwrap();
        let (port, rpc) = (free_port(), free_port());
        let place = folder.path().display();
        let config = format!(
            "metadata_dir = \"{place}/meta\"\ndata_dir = \"{place}/data\"\ndb_engine = \"lmdb\"\n\
             replication_factor = 1\nrpc_bind_addr = \"127.0.0.1:{rpc}\"\nrpc_public_addr = \"127.0.0.1:{rpc}\"\n\
             rpc_secret = \"1799bccfd7411eddcf9ebd316bc1f5287ad12a68094e1c6ac6abde7e6feae1ec\"\n\n\
             [s3_api]\ns3_region = \"garage\"\napi_bind_addr = \"127.0.0.1:{port}\"\n"
        );
        fs::write(folder.path().join("garage.toml"), config).unwrap();
        let garage = Self { folder, port, server: Mutex::new(None) };
        garage.resume();
        garage
    }

    /// One that lives as long as the test binary, and is cleared up after it.
    fn for_all_tests() -> Self {
        let garage = Self::start();
        janitor::stops(garage.server.lock().unwrap().as_ref().unwrap().id());
        janitor::wipes(garage.folder.path());
        garage
    }

    /// Starts the server again on what it stored.
    pub(crate) fn resume(&self) {
        let log = fs::File::create(self.folder.path().join("log")).unwrap();
        #[expect(clippy::disallowed_methods, reason = "tests start what they test against")]
        let server = Command::new(program())
            .args(["-c".as_ref(), self.folder.path().join("garage.toml").as_os_str()])
            .args(["server", "--single-node", "--default-bucket"])
            .env("GARAGE_DEFAULT_ACCESS_KEY", ACCESS_KEY)
            .env("GARAGE_DEFAULT_SECRET_KEY", Self::SECRET_KEY)
            .env("GARAGE_DEFAULT_BUCKET", BUCKET)
            .env("RUST_LOG", "garage=warn")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        *self.server.lock().unwrap() = Some(server);
        let begin = Instant::now();
        // The bucket is made after the port opens: a listing with the key must work before anybody relies on it.
        while !self.answers() {
            assert!(begin.elapsed() < PATIENCE, "Garage does not answer: {}", self.log());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Ends the server as a power cut would.
    pub(crate) fn stop(&self) {
        if let Some(mut server) = self.server.lock().unwrap().take() {
            server.kill().unwrap();
            server.wait().unwrap();
        }
    }

    /// The URL of a vault under this prefix.
    pub(crate) fn url(&self, prefix: &str) -> String {
        url_at(self.port, prefix)
    }

    /// The same through a proxy.
    pub(crate) fn url_through(&self, proxy: &Proxy, prefix: &str) -> String {
        url_at(proxy.port(), prefix)
    }

    /// A proxy before this server.
    pub(crate) fn proxy(&self) -> Proxy {
        Proxy::before(self.port)
    }

    /// Writes a credentials file, mode 0600.
    pub(crate) fn credentials(&self, file: &Path) {
        use std::os::unix::fs::OpenOptionsExt;
        let text = format!("access_key_id = \"{ACCESS_KEY}\"\nsecret_access_key = \"{}\"\n", Self::SECRET_KEY);
        let mut open = fs::OpenOptions::new();
        let mut file = open.write(true).create(true).truncate(true).mode(0o600).open(file).unwrap();
        std::io::Write::write_all(&mut file, text.as_bytes()).unwrap();
    }

    /// OpenDAL's own view of the bucket below a prefix, to copy or change what lies there.
    pub(crate) fn operator(&self, prefix: &str) -> opendal::Operator {
        opendal::install_default();
        let builder = opendal::services::S3::default()
            .bucket(BUCKET)
            .root(&format!("/{prefix}"))
            .endpoint(&format!("http://127.0.0.1:{}", self.port))
            .region("garage")
            .disable_config_load()
            .access_key_id(ACCESS_KEY)
            .secret_access_key(Self::SECRET_KEY);
        opendal::Operator::new(builder).unwrap()
    }

    /// Copies everything below a prefix into a folder: what a rescuer's own tool would do.
    pub(crate) fn copy_to(&self, prefix: &str, folder: &Path) {
        let operator = self.operator(prefix);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            for entry in operator.list_with("").recursive(true).await.unwrap() {
                if entry.path().ends_with('/') {
                    continue;
                }
                let file = folder.join(entry.path());
                fs::create_dir_all(file.parent().unwrap()).unwrap();
                fs::write(file, operator.read(entry.path()).await.unwrap().to_vec()).unwrap();
            }
        });
    }

    /// What the server itself says of the bucket, uploads that were begun and not ended among it.
    pub(crate) fn describe(&self) -> String {
        #[expect(clippy::disallowed_methods, reason = "tests ask what they test against")]
        let said = Command::new(program())
            .args(["-c".as_ref(), self.folder.path().join("garage.toml").as_os_str()])
            .args(["bucket", "info", BUCKET])
            .output()
            .unwrap();
        assert!(said.status.success(), "{said:?}");
        String::from_utf8(said.stdout).unwrap()
    }

    fn answers(&self) -> bool {
        if TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            return false;
        }
        let operator = self.operator("");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async { operator.list("").await.is_ok() })
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Garage {
    fn drop(&mut self) {
        self.stop();
    }
}

fn url_at(port: u16, prefix: &str) -> String {
    format!("s3://{BUCKET}/{prefix}?endpoint=http://127.0.0.1:{port}&region=garage")
}

/// The program: where `run-tests` put it, or on `PATH`.
fn program() -> PathBuf {
    let built = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("tools").join("garage");
    #[expect(clippy::disallowed_methods, reason = "tests run the programs of the machine they run on")]
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).map(|folder| folder.join("garage"));
    let found = std::iter::once(built).chain(folders).find(|candidate| candidate.is_file());
    found.expect("Garage is not installed: run ./run-tests --setup")
}
