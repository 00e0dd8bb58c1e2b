//! What the cluster needs from the system: binaries, an account that is not root, signals and the process list.

use std::fs;
use std::os::unix::fs::{MetadataExt, lchown};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, bail};

use crate::process;

/// Oldest release that we run: before it, every role may create tables in the schema `public`.
const OLDEST_MAJOR: u32 = 15;
/// Where Debian keeps one folder for each release.
const DEBIAN_FOLDER: &str = "/usr/lib/postgresql";
const INSTALL: &str = "install it (Debian: apt-get install postgresql) or set DATABASE_URL";

/// The folder that holds `initdb` and `postgres` of one release.
#[derive(Debug)]
pub struct Binaries {
    folder: PathBuf,
}

impl Binaries {
    /// Looks in `PATH`, then in Debian's folders from the newest; an existing cluster needs the release that made it.
    pub fn find(major: Option<&str>) -> anyhow::Result<Binaries> {
        let mut seen = Vec::new();
        for folder in on_path("initdb").into_iter().chain(debian_folders()) {
            let binaries = Binaries { folder };
            let Some(found) = binaries.major() else {
                continue;
            };
            let fits = major.map_or(found >= OLDEST_MAJOR, |major| major == found.to_string());
            if fits {
                return Ok(binaries);
            }
            seen.push(found.to_string());
        }
        let wanted = match major {
            Some(major) => format!("PostgreSQL {major}, which made this cluster,"),
            None => format!("PostgreSQL {OLDEST_MAJOR} or newer"),
        };
        let package = major.map_or("postgresql".to_owned(), |major| {
            format!("postgresql-{major}")
        });
        let others = match seen.is_empty() {
            true => String::new(),
            false => format!(" (found: {})", seen.join(", ")),
        };
        bail!(
            "{wanted} is not on PATH nor in {DEBIAN_FOLDER}{others}; \
             install it (Debian: apt-get install {package}) or set DATABASE_URL"
        )
    }

    /// The path of one program.
    pub fn path(&self, program: &str) -> PathBuf {
        self.folder.join(program)
    }

    /// The release, if both programs are there and run.
    fn major(&self) -> Option<u32> {
        if !self.path("initdb").exists() {
            return None;
        }
        let output = Command::new(self.path("postgres"))
            .arg("--version")
            .output()
            .ok()?;
        // "postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)", or "16beta1" in place of the number.
        let text = String::from_utf8(output.stdout).ok()?;
        let version = text.split_whitespace().nth(2)?;
        version
            .split(|c: char| !c.is_ascii_digit())
            .next()?
            .parse()
            .ok()
    }
}

/// The folder of a program that the shell finds, links followed.
fn on_path(program: &str) -> Option<PathBuf> {
    let path = shell_finds(program)?;
    Some(fs::canonicalize(path).ok()?.parent()?.to_owned())
}

/// Asks the shell, which knows `PATH`: only the configuration reads the environment.
fn shell_finds(program: &str) -> Option<PathBuf> {
    let output = Command::new("/bin/sh")
        .args(["-c", "command -v \"$0\"", program])
        .output()
        .ok()?;
    let path = PathBuf::from(String::from_utf8(output.stdout).ok()?.trim_end());
    path.is_absolute().then_some(path)
}

fn debian_folders() -> Vec<PathBuf> {
    let entries = fs::read_dir(DEBIAN_FOLDER).into_iter().flatten().flatten();
    let mut majors: Vec<u32> = entries
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect();
    majors.sort_unstable_by(|one, other| other.cmp(one));
    majors
        .iter()
        .map(|major| PathBuf::from(format!("{DEBIAN_FOLDER}/{major}/bin")))
        .collect()
}

/// The account that PostgreSQL runs as, and how to become it.
#[derive(Debug)]
pub struct Account {
    /// Name, uid and gid to change to; none when we are not root and stay who we are.
    other: Option<(String, u32, u32)>,
    setpriv: Option<PathBuf>,
}

impl Account {
    /// Chooses the account: ours, or for root the owner of an existing cluster, else `postgres`, else `nobody`.
    pub fn for_folder(data_dir: &Path) -> anyhow::Result<Account> {
        let setpriv = shell_finds("setpriv");
        if !process::is_root() {
            return Ok(Account {
                other: None,
                setpriv,
            });
        }
        if setpriv.is_none() {
            bail!(
                "PostgreSQL does not run as root, and setpriv is missing to run it as somebody else: \
                   install util-linux, start mana-auth as another user, or set DATABASE_URL"
            );
        }
        let users = fs::read_to_string("/etc/passwd").context("reading /etc/passwd")?;
        let owner = fs::metadata(data_dir.join("PG_VERSION"))
            .ok()
            .map(|file| file.uid());
        let chosen = match owner {
            Some(0) => bail!(
                "{} belongs to root, and PostgreSQL does not run as root",
                data_dir.display()
            ),
            Some(uid) => find_user(&users, |_, found| found == uid),
            None => find_user(&users, |name, _| name == "postgres")
                .or_else(|| find_user(&users, |name, _| name == "nobody")),
        };
        let other = chosen.with_context(|| {
            format!("PostgreSQL does not run as root, and no user is known to run it as; {INSTALL}")
        })?;
        Ok(Account {
            other: Some(other),
            setpriv,
        })
    }

    /// A command that runs as this account, with an empty environment, and is interrupted when our thread dies.
    ///
    /// The environment is emptied because ours holds secrets, and because `PG*` variables would be obeyed.
    pub fn command(&self, program: &Path) -> Command {
        let mut command = match &self.setpriv {
            Some(setpriv) => {
                let mut command = Command::new(setpriv);
                if let Some((_, uid, gid)) = &self.other {
                    command
                        .arg(format!("--reuid={uid}"))
                        .arg(format!("--regid={gid}"));
                    command.arg("--clear-groups");
                }
                command.args(["--pdeathsig", "INT", "--"]).arg(program);
                command
            }
            None => Command::new(program),
        };
        command
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("LC_ALL", "C");
        command
    }

    /// Gives a folder of ours to the account.
    pub fn own(&self, folder: &Path) -> anyhow::Result<()> {
        if let Some((name, uid, gid)) = &self.other {
            lchown(folder, Some(*uid), Some(*gid))
                .with_context(|| format!("giving {} to {name}", folder.display()))?;
        }
        Ok(())
    }

    /// Makes sure that the account can enter a folder; else says which folder on the way is closed to it.
    pub fn check_reaches(&self, folder: &Path) -> anyhow::Result<()> {
        let Some((name, ..)) = &self.other else {
            return Ok(());
        };
        if self.can_enter(folder)? {
            return Ok(());
        }
        let mut way: Vec<&Path> = folder.ancestors().collect();
        way.reverse();
        for closed in way {
            if !self.can_enter(closed)? {
                bail!(
                    "PostgreSQL runs as {name}, who cannot enter {}; \
                     choose another MANA_AUTH_DATA_DIR or open that folder (chmod o+x)",
                    closed.display()
                );
            }
        }
        bail!(
            "PostgreSQL runs as {name}, who cannot enter {}",
            folder.display()
        )
    }

    fn can_enter(&self, folder: &Path) -> anyhow::Result<bool> {
        let mut command = self.command(Path::new("/bin/sh"));
        command
            .args(["-c", "cd \"$0\""])
            .arg(folder)
            .current_dir("/");
        let status = command.stdin(Stdio::null()).stderr(Stdio::null()).status();
        Ok(status.context("starting setpriv")?.success())
    }
}

fn find_user(passwd: &str, wanted: impl Fn(&str, u32) -> bool) -> Option<(String, u32, u32)> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        let uid = fields.nth(1)?.parse().ok()?;
        let gid = fields.next()?.parse().ok()?;
        wanted(name, uid).then(|| (name.to_owned(), uid, gid))
    })
}

/// Sends SIGINT. The shell has it built in, which spares us unsafe code and a package.
pub fn interrupt(pid: u32) -> anyhow::Result<()> {
    let status = Command::new("/bin/sh")
        .args(["-c", "kill -INT \"$0\"", &pid.to_string()])
        .status();
    match status.context("starting /bin/sh")?.success() {
        true => Ok(()),
        false => bail!("cannot interrupt process {pid}"),
    }
}

/// A PostgreSQL process at work in a data folder, which is where all processes of a server live.
///
/// Where `/proc` is missing this finds none, and the server's own lock file decides.
pub fn server_in(data_dir: &Path) -> Option<u32> {
    fs::read_dir("/proc").ok()?.flatten().find_map(|entry| {
        let pid = entry.file_name().to_str()?.parse().ok()?;
        let is_postgres = fs::read_to_string(entry.path().join("comm")).ok()?.trim() == "postgres";
        let is_here = fs::read_link(entry.path().join("cwd")).ok()? == data_dir;
        (is_postgres && is_here).then_some(pid)
    })
}

/// Whether the server that a folder's lock file names was killed and still has its process id, because the
/// parent has not taken note of its end.
pub fn is_unburied_in(data_dir: &Path) -> bool {
    let ended = || {
        let lock = fs::read_to_string(data_dir.join("postmaster.pid")).ok()?;
        let stat = fs::read_to_string(format!("/proc/{}/stat", lock.lines().next()?)).ok()?;
        // "4711 (postgres) Z …"
        let (process, state) = stat.rsplit_once(") ")?;
        Some(process.ends_with("(postgres") && state.starts_with('Z'))
    };
    ended().unwrap_or(false)
}
