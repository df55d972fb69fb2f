//! A machine whose `/` belongs to the test: a mount namespace of its own, entered by a change of root, in which only
//! programs come from the machine that runs the tests, and they are read-only. What is written there lies in the test's
//! scratch folder or in memory. Its unit manager is a fake that keeps how each unit stands and what it was told.
//! An ordinary user gets a user namespace too: then there is one user, root, and no owner but that one can be given.

use super::closing;
use super::env::{Run, Running, TestEnv};
use std::fs;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where programs are found there.
const PATH: &str = "/fake/bin:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin";
/// Makes the namespace's `/` and stays. Arguments: the folder that becomes `/`, the program that is tested, and what
/// else is shown at its own place.
const KEEPER: &str = r#"set -eu
root=$1 program=$2
shift 2
mount --bind "$root" "$root"
cd "$root"
programs='/usr /etc/alternatives'
for name in bin sbin lib lib32 lib64 libx32; do
    if [ -L "/$name" ]; then ln -s "$(readlink "/$name")" "$name"; else programs="$programs /$name"; fi
done
for path in $programs; do
    [ ! -d "$path" ] || { mkdir -p ".$path"; mount --rbind "$path" ".$path"; mount -o remount,bind,ro ".$path"; }
done
for path in /dev /proc "$@"; do mkdir -p ".$path"; mount --rbind "$path" ".$path"; done
touch fake/relay-backup
mount --bind "$program" fake/relay-backup
mkdir gone
pivot_root . gone
cd /
umount -l gone
rmdir gone
touch /fake/ready
exec sleep 3600
"#;
/// Answers like systemd: a job is queued, and done when somebody has looked once.
const SYSTEMCTL: &str = r#"#!/bin/sh
set -eu
verb=$1
for unit; do :; done
here=/fake/units/$unit
printf '%s\n' "$*" >>/fake/asked
case $verb in
    start | stop)
        printf '%s %s%s\n' "$verb" "$unit" "$(sh /fake/witness)" >>/fake/told
        if [ -e "$here/refuses-$verb" ]; then
            echo "Failed to $verb $unit: Access denied" >&2
            exit 4
        fi
        cat "$here/after-$verb" >"$here/job"
        [ ! -e "$here/stuck" ] || touch "$here/waited-for"
        ;;
    show)
        if [ ! -d "$here" ]; then
            printf 'LoadState=not-found\nActiveState=inactive\nJob=\n'
            exit 0
        fi
        printf 'LoadState=loaded\nActiveState=%s\n' "$(cat "$here/active")"
        if [ -e "$here/job" ]; then
            echo Job=77
            [ -e "$here/stuck" ] || mv "$here/job" "$here/active"
        else
            echo Job=
        fi
        ;;
esac
"#;

/// Whether owners other than root can be given on a [`Machine`].
pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// One machine.
pub(crate) struct Machine {
    /// Its scratch folder, outside.
    pub(crate) env: TestEnv,
    keeper: Running,
}

impl Machine {
    /// A machine with nothing on it but users, of whom root is the only one where the test's user is not root. The
    /// folders of `shown` are seen there at their own place.
    pub(crate) fn new(users: &[(&str, u32)], shown: &[&Path]) -> Self {
        let env = TestEnv::new();
        let users: &[(&str, u32)] = if is_root() { users } else { &[] };
        let list = |line: &dyn Fn(&str, u32) -> String| -> String {
            [("root", 0), ("nobody", 65534)].iter().chain(users).map(|(name, id)| line(name, *id)).collect()
        };
        let passwd = list(&|name, id| format!("{name}:x:{id}:{id}::/nonexistent:/bin/false\n"));
        env.write("machine/etc/passwd", passwd, 0o644);
        env.write("machine/etc/group", list(&|name, id| format!("{name}:x:{id}:\n")), 0o644);
        for file in ["ld.so.cache", "ld.so.conf", "nsswitch.conf"] {
            if let Ok(bytes) = fs::read(Path::new("/etc").join(file)) {
                env.write(&format!("machine/etc/{file}"), bytes, 0o644);
            }
        }
        env.write("machine/fake/bin/systemctl", SYSTEMCTL, 0o755);
        env.write("machine/fake/witness", "", 0o644);
        let folders = [("tmp", 0o1777), ("root", 0o700), ("run", 0o755), ("mnt", 0o755), ("var/lib", 0o755)];
        for (name, mode) in folders.into_iter().chain([("fake/units", 0o755)]) {
            fs::DirBuilder::new().recursive(true).mode(0o755).create(env.path("machine").join(name)).unwrap();
            fs::set_permissions(env.path("machine").join(name), fs::Permissions::from_mode(mode)).unwrap();
        }
        for folder in ["", "etc", "fake", "fake/bin"] {
            fs::set_permissions(env.path("machine").join(folder), fs::Permissions::from_mode(0o755)).unwrap();
        }
        symlink("/proc/self/mounts", env.path("machine/etc/mtab")).unwrap();
        let keeper = keep(&env, shown);
        Self { env, keeper }
    }

    /// The process that keeps its namespace.
    pub(crate) fn keeper(&self) -> u32 {
        self.keeper.id()
    }

    /// Where a path of it lies for the test, what is mounted there included.
    pub(crate) fn at(&self, path: impl AsRef<Path>) -> PathBuf {
        let root = PathBuf::from(format!("/proc/{}/root", self.keeper.id()));
        root.join(path.as_ref().strip_prefix("/").unwrap())
    }

    /// Writes a file there, with its folders, and gives it to a user where owners can be given.
    pub(crate) fn write(&self, path: &str, bytes: impl AsRef<[u8]>, mode: u32, owner: u32) {
        let at = self.at(path);
        let missing: Vec<&Path> = at.ancestors().skip(1).take_while(|folder| !folder.exists()).collect();
        for folder in missing.into_iter().rev() {
            fs::DirBuilder::new().mode(0o755).create(folder).unwrap();
            give(folder, owner);
        }
        if mode & 0o111 == 0 {
            fs::write(&at, bytes).unwrap();
            fs::set_permissions(&at, fs::Permissions::from_mode(mode)).unwrap();
        } else {
            closing::write_program(&at, bytes.as_ref(), mode);
        }
        give(&at, owner);
    }

    /// A program there.
    pub(crate) fn program(&self, program: &str) -> Run {
        let keeper = self.keeper.id().to_string();
        let enter = self.env.program("nsenter").env("PATH", PATH).env("HOME", "/root").env("TMPDIR", "/tmp");
        let enter = enter.args(["--target", &keeper, "--mount"]);
        let enter = if is_root() { enter } else { enter.args(["--user", "--preserve-credentials"]) };
        enter.arg("--").arg(program)
    }

    /// The program that is tested, there.
    pub(crate) fn relay_backup(&self, arguments: &[&str]) -> Run {
        self.program("/fake/relay-backup").args(arguments)
    }

    /// Mounts a small filesystem in memory there.
    pub(crate) fn disk(&self, at: &str, kib: u64) {
        let options = format!("size={kib}k,mode=0755");
        fs::create_dir_all(self.at(at)).unwrap();
        self.program("mount").args(["-t", "tmpfs", "-o", &options, "none", at]).ends().exits(0);
    }

    /// Says of a unit that there is one and how it stands: `active`, `inactive`, `failed`, `activating`.
    pub(crate) fn unit(&self, unit: &str, active: &str) {
        for (what, state) in [("active", active), ("after-start", "active"), ("after-stop", "inactive")] {
            self.unit_file(unit, what, state);
        }
    }

    /// Says more of a unit: `after-start` and `after-stop` hold the state that a job ends in, `refuses-start` and
    /// `refuses-stop` stand for a manager that does not obey, `stuck` for jobs that do not end.
    pub(crate) fn unit_file(&self, unit: &str, file: &str, text: &str) {
        let folder = self.at("/fake/units").join(unit);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(file), text).unwrap();
    }

    /// Takes back what [`Machine::unit_file`] said.
    pub(crate) fn forget(&self, unit: &str, file: &str) {
        fs::remove_file(self.at("/fake/units").join(unit).join(file)).unwrap();
    }

    /// How a unit stands.
    pub(crate) fn state(&self, unit: &str) -> String {
        fs::read_to_string(self.at("/fake/units").join(unit).join("active")).unwrap()
    }

    /// Whether a job of a unit that is `stuck` is being waited for.
    pub(crate) fn is_waited_for(&self, unit: &str) -> bool {
        self.at("/fake/units").join(unit).join("waited-for").exists()
    }

    /// What the unit manager was told, in order: `stop UNIT` or `start UNIT`, and what the witness said at that moment.
    pub(crate) fn told(&self) -> Vec<String> {
        lines(&self.at("/fake/told"))
    }

    /// What it was asked and told, in order, word for word.
    pub(crate) fn asked(&self) -> Vec<String> {
        lines(&self.at("/fake/asked"))
    }

    /// A shell script whose words are noted beside whatever the unit manager is told.
    pub(crate) fn witness(&self, script: &str) {
        fs::write(self.at("/fake/witness"), script).unwrap();
    }
}

fn lines(file: &Path) -> Vec<String> {
    fs::read_to_string(file).unwrap_or_default().lines().map(str::to_owned).collect()
}

fn give(path: &Path, owner: u32) {
    if is_root() {
        std::os::unix::fs::lchown(path, Some(owner), Some(owner)).unwrap();
    }
}

/// Starts the process that keeps the namespace.
fn keep(env: &TestEnv, shown: &[&Path]) -> Running {
    let unshare = env.program("unshare").args(["--mount", "--propagation", "private"]);
    let unshare = if is_root() { unshare } else { unshare.arg("--map-root-user") };
    let shell = unshare.args(["sh", "-c", KEEPER, "keeper"]).arg(env.path("machine"));
    let keeper = shell.arg(env!("CARGO_BIN_EXE_relay-backup")).args(shown).start();
    while !env.path("machine/fake/ready").exists() {
        if keeper.has_ended() {
            panic!(
                "no namespace of its own can be made here, so a restore on `/` cannot be tested. As root, allow mounts \
                 (a container needs --cap-add SYS_ADMIN); as another user, allow user namespaces \
                 (sysctl user.max_user_namespaces, kernel.apparmor_restrict_unprivileged_userns=0).\n{}",
                keeper.ends()
            );
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    keeper
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_to_its_root_is_not_written_to_ours() {
        let machine = Machine::new(&[("clightning", 30001)], &[]);
        let script = "set -e; mkdir -p /etc/relay-backup /var/lib/x; echo there >/etc/relay-backup/rb-test; id -u";
        machine.program("sh").args(["-c", script]).ends().exits(0).prints("0\n");
        assert_eq!(fs::read_to_string(machine.at("/etc/relay-backup/rb-test")).unwrap(), "there\n");
        assert!(!Path::new("/etc/relay-backup/rb-test").exists());
        let ended = machine.program("touch").arg("/usr/rb-test").ends();
        assert_eq!(ended.code, Some(1), "{ended}");
        machine.disk("/small", 64);
        machine.program("df").args(["-k", "/small"]).ends().exits(0).prints(" 64 ");
        let outside = fs::read_to_string("/proc/self/mounts").unwrap();
        assert!(!outside.contains(machine.env.home().to_str().unwrap()) && !outside.contains("/small"));
        machine.write("/var/lib/y/file", "text", 0o640, 30001);
        let known = machine.program("stat").args(["-c", "%U %a", "/var/lib/y/file"]).ends().exits(0);
        assert_eq!(known.stdout, if is_root() { "clightning 640\n" } else { "root 640\n" });
    }

    #[test]
    fn its_units_answer_as_they_were_told() {
        let machine = Machine::new(&[], &[]);
        let systemctl = |arguments: &[&str]| machine.program("systemctl").args(arguments).ends();
        systemctl(&["show", "--", "x.service"]).exits(0).prints("LoadState=not-found");
        machine.unit("x.service", "inactive");
        machine.witness("printf ' while %s' \"$(cat /etc/hostname 2>/dev/null || echo unnamed)\"");
        systemctl(&["start", "--no-block", "--", "x.service"]).exits(0);
        systemctl(&["show", "--", "x.service"]).exits(0).prints("ActiveState=inactive\nJob=77");
        systemctl(&["show", "--", "x.service"]).exits(0).prints("ActiveState=active\nJob=\n");
        machine.unit_file("x.service", "refuses-stop", "");
        systemctl(&["stop", "--", "x.service"]).exits(4).complains("Access denied");
        assert_eq!(machine.told(), ["start x.service while unnamed", "stop x.service while unnamed"]);
        assert_eq!(machine.state("x.service"), "active");
    }
}
