//! A superuser's session in a scratch server, with all that such a session can do, tries to get at its caller.

use super::*;
use crate::base::interrupt::Interrupt;
use crate::sandbox::cluster::processes::of_folder;
use crate::sandbox::cluster::{Cluster, find};
use std::fs::{self, Permissions};
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

/// A cluster, and what lies around it that is none of its business.
struct Scene {
    cluster: Cluster,
    place: tempfile::TempDir,
    listener: TcpListener,
}

impl Scene {
    fn new(wanted: Wanted) -> Self {
        let initdb = find("initdb").unwrap().canonicalize().unwrap();
        Self::with(initdb.parent().unwrap(), wanted)
    }

    fn with(bin: &Path, wanted: Wanted) -> Self {
        let place = tempfile::tempdir().unwrap();
        fs::set_permissions(place.path(), Permissions::from_mode(0o755)).unwrap();
        for (name, mode) in [("open", 0o644), ("closed", 0o600)] {
            fs::write(place.path().join(name), format!("AGE-SECRET-KEY-{name}\n")).unwrap();
            fs::set_permissions(place.path().join(name), Permissions::from_mode(mode)).unwrap();
        }
        let cluster = Cluster::make(place.path(), bin, &Interrupt::new(), wanted).unwrap();
        cluster.execute("postgres", "CREATE TABLE seen (line text)").unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        Self { cluster, place, listener }
    }

    fn secret(&self, name: &str) -> String {
        self.place.path().join(name).display().to_string()
    }

    /// What a program says that the server runs, whether it fails or not.
    fn run(&self, script: &str) -> String {
        let script = format!("({script}) 2>&1; true").replace('\'', "''");
        let copy = format!("COPY seen FROM PROGRAM '{script}' (FORMAT csv, DELIMITER E'\\x01', QUOTE E'\\x02')");
        self.cluster.execute("postgres", "TRUNCATE seen").unwrap();
        self.cluster.execute("postgres", &copy).unwrap();
        let rows = self.cluster.query("postgres", "SELECT line FROM seen").unwrap();
        rows.into_iter().map(|mut row| row.remove(0).unwrap_or_default() + "\n").collect()
    }

    /// What a query gives, as text; an error's text where it fails.
    fn ask(&self, sql: &str) -> String {
        match self.cluster.query("postgres", sql) {
            Ok(rows) => format!("{rows:?}"),
            Err(error) => told(&error),
        }
    }

    /// Whether the server gets at something that listens on this machine.
    fn reaches_the_listener(&self) -> bool {
        let port = self.listener.local_addr().unwrap().port();
        let psql = format!("psql 'host=127.0.0.1 port={port} connect_timeout=2 dbname=x user=x' -c 'SELECT 1'");
        let said = self.run(&format!("timeout 3 {psql}; echo asked"));
        assert!(said.ends_with("asked\n") && !said.contains("not found"), "{said}");
        self.listener.accept().is_ok()
    }

    /// The server's first process, as this process sees it.
    fn server(&self) -> PathBuf {
        let data = self.cluster.folder().join("data");
        let found = of_folder(data.metadata().unwrap().uid(), &data);
        let processes = found.iter().map(|pid| PathBuf::from(format!("/proc/{}", pid.as_raw_nonzero())));
        let named = |process: &PathBuf| fs::read_to_string(process.join("comm")).unwrap() == "postgres\n";
        let mut servers: Vec<_> = processes.filter(named).collect();
        assert_eq!(servers.len(), 1, "{servers:?}");
        servers.remove(0)
    }

    /// A line of its `status`.
    fn status(&self, name: &str) -> String {
        let status = fs::read_to_string(self.server().join("status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    /// Nothing gives it a right, and this process's environment and open files are not its own.
    fn assert_it_got_nothing(&self) {
        for set in ["CapInh:", "CapPrm:", "CapEff:", "CapAmb:"] {
            assert_eq!(self.status(set), "0000000000000000", "{set}");
        }
        assert_eq!(self.status("NoNewPrivs:"), "1");
        let environment = self.run("env");
        let known = [
            "HOME=/",
            "TZ=UTC",
            "PATH=/usr/bin:/bin",
            "LD_ORIGIN_PATH=",
            "LOCALE_ARCHIVE=",
            "LC_",
            "PG",
            "PWD=",
            "SHLVL=",
            "_=",
            "OLDPWD=",
        ];
        for line in environment.lines() {
            assert!(known.iter().any(|start| line.starts_with(start)), "{line}");
        }
        for file in fs::read_dir(self.server().join("fd")).unwrap().flatten() {
            let Ok(open) = fs::read_link(file.path()) else { continue };
            let open = open.to_string_lossy();
            let is_its_own = ["pipe:", "socket:", "anon_inode:"].iter().any(|start| open.starts_with(start));
            assert!(is_its_own || open.ends_with("/dev/null") || open.contains("/relay-pg-"), "{open}");
        }
    }

    /// Ends the cluster; nothing of it is left, whatever it did to its folder.
    fn end(self) {
        let server = self.server();
        let (folder, socket) = (self.cluster.folder().to_owned(), self.cluster.socket().to_owned());
        self.run("mkdir -p left/below; echo plain >left/below/plain; chmod 000 left/below left; setsid sleep 20 >&- 2>&- & true");
        drop(self.cluster);
        assert!(!folder.exists() && !socket.exists() && !server.exists());
    }
}

fn is_root() -> bool {
    uzers::get_effective_uid() == 0
}

/// The walls that an ordinary user cannot have.
fn without_root() -> Vec<Wall> {
    if is_root() { Vec::new() } else { vec![Wall::User] }
}

#[test]
fn a_superuser_of_the_server_sees_nothing_of_this_machine() {
    let scene = Scene::new(Wanted::All);
    let walls = scene.cluster.walls();
    assert_eq!(walls.missing(), without_root(), "{walls:?}");
    assert!(walls.weakness().is_none_or(|said| said.contains("no user of its own") && walls.hint().is_some()));
    // Files: not the callers, nor anybody else's.
    for name in ["open", "closed"] {
        let path = scene.secret(name);
        for sql in [format!("SELECT pg_read_file('{path}')"), format!("SELECT lo_import('{path}')")] {
            assert!(scene.ask(&sql).contains("No such file or directory"), "{sql}");
        }
        let said = scene.run(&format!("cat {path}; cat /proc/{}/root{path}", std::process::id()));
        assert_eq!(said.matches("No such file or directory").count(), 2, "{said}");
    }
    let top = scene.run("ls -A /");
    let known = ["bin", "dev", "etc", "lib", "lib32", "lib64", "libx32", "nix", "run", "sbin", "usr"];
    let way = scene.cluster.folder().components().nth(1).unwrap().as_os_str().to_string_lossy().into_owned();
    assert!(top.lines().all(|name| known.contains(&name) || name == way), "{top}");
    assert_eq!(scene.run("ls -A /home /root /var /proc 2>/dev/null"), "");
    let around = scene.run(&format!("ls -A {} {}", scene.place.path().display(), scene.cluster.folder().display()));
    assert!(around.contains("data") && !around.contains("open") && !around.contains("owner.lock"), "{around}");
    for place in ["/", "/usr", "/etc", "/dev"] {
        let said = scene.run(&format!("touch {place}/planted"));
        assert!(said.contains("Read-only file system") || said.contains("Permission denied"), "{said}");
    }
    // Processes.
    let caller = std::process::id();
    assert!(!scene.run(&format!("kill -0 {caller} && echo seen")).contains("seen"));
    assert_eq!(scene.run("cat /proc/*/cmdline /proc/*/environ /proc/net/dev 2>/dev/null"), "");
    for namespace in ["mnt", "pid", "net", "ipc", "uts"] {
        let of = |process: &Path| fs::read_link(process.join("ns").join(namespace)).unwrap();
        assert_ne!(of(&scene.server()), of(Path::new("/proc/self")), "{namespace}");
    }
    // The network, and a way to more rights.
    assert!(!scene.reaches_the_listener());
    assert!(!scene.run("unshare --user --map-root-user echo entered").contains("entered"));
    scene.assert_it_got_nothing();
    scene.end();
}

#[test]
fn it_has_a_user_of_its_own_who_has_no_name() {
    if !is_root() {
        return; // Only root can give one.
    }
    for wanted in [Wanted::All, Wanted::NoNamespaces, Wanted::Nothing] {
        let (scene, other) = (Scene::new(wanted), Scene::new(wanted));
        let user = scene.status("Uid:");
        let ids: Vec<u32> = user.split(' ').map(|id| id.parse().unwrap()).collect();
        assert!(ids.iter().all(|id| *id == ids[0] && *id != 0), "{user}");
        assert!(uzers::get_user_by_uid(ids[0]).is_none() && uzers::get_group_by_gid(ids[0]).is_none());
        assert_eq!(scene.status("Gid:"), user);
        assert_eq!(scene.status("Groups:"), "");
        assert_ne!(other.status("Uid:"), user);
        assert_eq!(scene.run("id -u").trim(), ids[0].to_string());
    }
}

#[test]
fn where_there_are_no_namespaces_a_fence_keeps_files_away() {
    let scene = Scene::new(Wanted::NoNamespaces);
    let missing = [without_root(), vec![Wall::Processes, Wall::Network]].concat();
    assert_eq!(scene.cluster.walls().missing(), missing, "{:?}", scene.cluster.walls());
    for name in ["open", "closed"] {
        let path = scene.secret(name);
        assert!(scene.ask(&format!("SELECT pg_read_file('{path}')")).contains("Permission denied"));
        assert!(scene.run(&format!("cat {path}")).contains("Permission denied"));
    }
    let caller = std::process::id();
    assert_eq!(
        scene.run(&format!(
            "cat /proc/{caller}/environ /proc/{caller}/cmdline 2>/dev/null; ls /proc/{caller}/root/ 2>/dev/null"
        )),
        ""
    );
    assert_eq!(scene.run("ls -A /home /root /var /proc /tmp / 2>/dev/null"), "");
    scene.assert_it_got_nothing();
    let walls = scene.cluster.walls().clone();
    assert!(walls.weakness().unwrap().contains("reaches the network"), "{walls:?}");
    assert!(walls.hint().unwrap().starts_with("run it"));
    scene.end();
}

#[test]
fn what_the_walls_keep_away_is_reached_without_them() {
    let scene = Scene::new(Wanted::Nothing);
    let missing = [without_root(), vec![Wall::Files, Wall::Processes, Wall::Network]].concat();
    assert_eq!(scene.cluster.walls().missing(), missing);
    assert!(scene.run(&format!("cat {}", scene.secret("open"))).contains("AGE-SECRET-KEY-open"));
    assert_eq!(scene.run(&format!("cat {}", scene.secret("closed"))).contains("AGE-SECRET-KEY"), !is_root());
    assert_ne!(scene.run("cat /proc/*/cmdline 2>/dev/null | tr '\\0' ' '"), "");
    assert!(scene.reaches_the_listener());
    scene.assert_it_got_nothing();
    scene.end();
}

#[test]
fn it_cannot_lead_its_caller_to_another_server() {
    for wanted in [Wanted::All, Wanted::NoNamespaces] {
        let (scene, other) = (Scene::new(wanted), Scene::new(Wanted::All));
        let own = scene.ask("SHOW data_directory");
        let listening = scene.run("sed -n 5p postmaster.pid").trim().to_owned();
        let there = other.cluster.socket().join(".s.PGSQL.5432");
        let folders = format!("'{listening}' '{}'", scene.cluster.socket().display());
        let script = format!(
            "for folder in {folders}; do ln -sf {} $folder/.s.PGSQL.5432; done; ls -l {listening}/.s*",
            there.display()
        );
        let said = scene.run(&script);
        assert!(said.contains(&format!("-> {}", there.display())), "{said}");
        assert_eq!(scene.ask("SHOW data_directory"), own);
        scene.end();
    }
}

#[test]
fn programs_are_run_from_where_they_lie() {
    let place = tempfile::tempdir().unwrap();
    fs::set_permissions(place.path(), Permissions::from_mode(0o755)).unwrap();
    let bin = place.path().join("a place/bin");
    fs::create_dir_all(&bin).unwrap();
    let real = find("initdb").unwrap().canonicalize().unwrap();
    for program in ["initdb", "postgres"] {
        fs::copy(real.parent().unwrap().join(program), bin.join(program)).unwrap();
    }
    for beside in ["lib", "share"] {
        let there = real.parent().unwrap().parent().unwrap().join(beside);
        std::os::unix::fs::symlink(there, bin.parent().unwrap().join(beside)).unwrap();
    }
    let home = bin.parent().unwrap().join("identity");
    fs::write(&home, "AGE-SECRET-KEY").unwrap();
    let scene = Scene::with(&bin, Wanted::All);
    assert_eq!(scene.cluster.walls().missing(), without_root());
    assert!(scene.ask("SHOW data_directory").contains("relay-pg-"));
    assert!(scene.run(&format!("ls '{}'", bin.display())).contains("postgres"));
    assert!(scene.run(&format!("cat '{}'", home.display())).contains("No such file"));
}

#[test]
fn locales_of_this_machine_are_known_there() {
    let scene = Scene::new(Wanted::All);
    let locale = Exec::new(crate::base::exec::find("locale", &[]).unwrap()).arg("-a").run(b"").unwrap();
    assert_eq!(scene.run("locale -a"), String::from_utf8(locale).unwrap());
    assert!(scene.ask("SELECT 'A' < 'b' COLLATE \"en-x-icu\"").contains('t'));
}
