//! Real S3 servers, each a process of its own with a folder of its own.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long a server may take to answer.
const START_MAX: Duration = Duration::from_secs(60);
/// How often one is started anew whose port was taken in the meantime.
const STARTS_MAX: usize = 5;

/// The bucket that each server has.
pub const BUCKET: &str = "atoll";
/// The key that each server knows.
pub const ACCESS_KEY_ID: &str = "GKatolltests";
/// Its secret.
pub const SECRET_ACCESS_KEY: &str = "a-secret-of-no-consequence";

/// Which server. They differ on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum S3Kind {
    /// versitygw over files: the strictest; a condition on a put is atomic.
    Versitygw,
    /// s3s-fs: a condition on a put is checked, not atomic; it cannot list uploads.
    S3sFs,
    /// garage: ignores conditions on puts.
    Garage,
}

/// A server that runs until it is dropped.
pub struct S3Server {
    kind: S3Kind,
    address: SocketAddr,
    folder: PathBuf,
    child: Child,
}

impl S3Server {
    /// Starts one over a folder, and waits until it answers. Its program must be on the path.
    pub fn start(kind: S3Kind, folder: &Path) -> std::io::Result<Self> {
        for _ in 0..STARTS_MAX {
            if let Some(server) = Self::try_start(kind, folder, free_address()?)? {
                return Ok(server);
            }
        }
        Err(std::io::Error::other(format!("{kind:?} ends as soon as it is started; see {}", folder.display())))
    }

    /// The address that clients are given.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Ends it as a crash would.
    pub fn kill(&mut self) -> std::io::Result<()> {
        self.child.kill()?;
        self.child.wait().map(drop)
    }

    /// Starts it again after it was killed, where it was before.
    pub fn restart(&mut self) -> std::io::Result<()> {
        self.kill()?;
        match Self::try_start(self.kind, &self.folder, self.address)? {
            Some(server) => {
                *self = server;
                Ok(())
            }
            None => Err(std::io::Error::other(format!("{:?} cannot be started again", self.kind))),
        }
    }

    /// One attempt: `None` if the process ended, as it does where something else listens on its port.
    fn try_start(kind: S3Kind, folder: &Path, address: SocketAddr) -> std::io::Result<Option<Self>> {
        let mut command = kind.command(folder, address)?;
        let log = std::fs::File::options().create(true).append(true).open(folder.join("server.log"))?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let program = command.get_program().to_owned();
        let child = command.spawn().map_err(|e| {
            std::io::Error::other(format!("{} cannot be run ({e}); `cargo xtask test` installs it", program.display()))
        })?;
        let mut server = Self { kind, address, folder: folder.to_owned(), child };
        let deadline = Instant::now() + START_MAX;
        while Instant::now() < deadline {
            if server.child.try_wait()?.is_some() {
                return Ok(None);
            }
            if answers(address) {
                return Ok(Some(server));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Err(std::io::Error::other(format!("{kind:?} does not answer after {} s", START_MAX.as_secs())))
    }
}

impl Drop for S3Server {
    fn drop(&mut self) {
        let _ended = self.kill();
    }
}

impl S3Kind {
    fn command(self, folder: &Path, address: SocketAddr) -> std::io::Result<Command> {
        let data = folder.join("data");
        match self {
            Self::Versitygw => {
                std::fs::create_dir_all(data.join(BUCKET))?;
                let mut command = Command::new("versitygw");
                command.env("ROOT_ACCESS_KEY_ID", ACCESS_KEY_ID).env("ROOT_SECRET_ACCESS_KEY", SECRET_ACCESS_KEY);
                command.args(["--port", &address.to_string(), "--keep-alive", "--quiet", "posix"]).arg(data);
                Ok(command)
            }
            Self::S3sFs => {
                std::fs::create_dir_all(data.join(BUCKET))?;
                let mut command = Command::new("s3s-fs");
                let (host, port) = (address.ip().to_string(), address.port().to_string());
                command.args(["--host", &host, "--port", &port]);
                command.args(["--access-key", ACCESS_KEY_ID, "--secret-key", SECRET_ACCESS_KEY]).arg(data);
                Ok(command)
            }
            Self::Garage => {
                std::fs::create_dir_all(&data)?;
                let file = folder.join("garage.toml");
                std::fs::write(&file, garage_config(&data, address, free_address()?))?;
                let mut command = Command::new("garage");
                command.env("GARAGE_DEFAULT_ACCESS_KEY", ACCESS_KEY_ID);
                command.env("GARAGE_DEFAULT_SECRET_KEY", SECRET_ACCESS_KEY).env("GARAGE_DEFAULT_BUCKET", BUCKET);
                command.arg("-c").arg(file).args(["server", "--single-node", "--default-bucket"]);
                Ok(command)
            }
        }
    }
}

fn garage_config(data: &Path, s3: SocketAddr, rpc: SocketAddr) -> String {
    let (meta, blocks, secret) = (data.join("meta"), data.join("blocks"), "a1".repeat(32));
    format!(
        "metadata_dir = {meta:?}\ndata_dir = {blocks:?}\ndb_engine = \"sqlite\"\nreplication_factor = 1\n\
         rpc_bind_addr = \"{rpc}\"\nrpc_public_addr = \"{rpc}\"\nrpc_secret = \"{secret}\"\n\
         [s3_api]\ns3_region = \"us-east-1\"\napi_bind_addr = \"{s3}\"\n"
    )
}

/// An address that nothing listens on now.
fn free_address() -> std::io::Result<SocketAddr> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()
}

/// Whether an HTTP server answers, whatever it says.
fn answers(address: SocketAddr) -> bool {
    let ask = || {
        let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(1))?;
        stream.set_read_timeout(Some(Duration::from_secs(1)))?;
        stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
        stream.read(&mut [0; 16])
    };
    ask().is_ok_and(|read| read > 0)
}
