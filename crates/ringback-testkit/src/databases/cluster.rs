//! A PostgreSQL cluster of one test's own, to be stopped, crashed and measured.

use std::{
    ffi::OsStr,
    fs,
    os::unix::{fs::chown, process::CommandExt},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use tempfile::TempDir;

use super::from_scripts_test;

/// A running PostgreSQL in a folder of its own, reachable by a socket in it alone.
///
/// Durable (`fsync=on`), with `pg_stat_statements` loaded. It is stopped, and its
/// folder removed, when this is dropped.
pub struct PrivatePostgres {
    folder: TempDir,
    owner: Option<Owner>,
}

/// PostgreSQL refuses to run as root, so root runs it as this user.
#[derive(Clone, Copy)]
struct Owner {
    uid: u32,
    gid: u32,
}

impl PrivatePostgres {
    /// Makes a cluster and starts it.
    ///
    /// # Panics
    ///
    /// If `RINGBACK_TEST_PG_BIN` is not set, or PostgreSQL does not start.
    pub fn start() -> Self {
        let folder = tempfile::Builder::new()
            .prefix("ringback-pg-")
            .tempdir_in("/tmp")
            .unwrap();
        let owner = is_root(folder.path()).then(postgres_user);
        if let Some(owner) = owner {
            chown(folder.path(), Some(owner.uid), Some(owner.gid)).unwrap();
        }
        let cluster = Self { folder, owner };
        let data = cluster.data();
        let options = [
            "--username=postgres",
            "--auth=trust",
            "--encoding=UTF8",
            "--locale=C",
        ];
        cluster.run(
            "initdb",
            [OsStr::new("--pgdata"), data.as_os_str()],
            &options,
        );
        cluster.configure();
        cluster.restart();
        cluster
    }

    /// Starts it again after [`Self::stop_immediate`]; its URL stays the same.
    pub fn restart(&self) {
        self.pg_ctl(&["start", "--wait", "--log", &self.path("log")]);
    }

    /// Ends it as a crash would: nothing is flushed, and it recovers at the next start.
    pub fn stop_immediate(&self) {
        self.pg_ctl(&["stop", "--wait", "--mode=immediate"]);
    }

    /// The URL of its database `postgres`.
    pub fn url(&self) -> String {
        format!(
            "postgres://postgres@localhost/postgres?host={}",
            self.folder.path().display()
        )
    }

    /// The process id of its postmaster, whose children do the work.
    pub fn postmaster(&self) -> u32 {
        let file = fs::read_to_string(self.data().join("postmaster.pid")).unwrap();
        file.lines()
            .next()
            .and_then(|line| line.trim().parse().ok())
            .unwrap()
    }

    fn configure(&self) {
        let settings = format!(
            "listen_addresses = ''\nunix_socket_directories = '{}'\nmax_connections = 200\n\
             fsync = on\nshared_preload_libraries = 'pg_stat_statements'\n",
            self.folder.path().display()
        );
        let path = self.data().join("postgresql.auto.conf");
        let found = fs::read_to_string(&path).unwrap();
        fs::write(&path, found + &settings).unwrap();
    }

    fn pg_ctl(&self, arguments: &[&str]) {
        let data = self.data();
        self.run(
            "pg_ctl",
            [OsStr::new("--pgdata"), data.as_os_str()],
            arguments,
        );
    }

    fn run(&self, program: &str, first: [&OsStr; 2], arguments: &[&str]) {
        let mut command = Command::new(Path::new(&bin_folder()).join(program));
        // A server that held our pipes open would keep whoever reads them waiting.
        command
            .args(first)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        command.current_dir(self.folder.path());
        if let Some(owner) = self.owner {
            command.uid(owner.uid).gid(owner.gid);
        }
        let status = command.status().unwrap();
        assert!(status.success(), "{program} failed: {}", self.log());
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    /// What it has logged so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }
}

impl Drop for PrivatePostgres {
    fn drop(&mut self) {
        if self.data().join("postmaster.pid").exists() {
            self.stop_immediate();
        }
    }
}

fn bin_folder() -> String {
    from_scripts_test("RINGBACK_TEST_PG_BIN")
}

/// Whoever made the folder owns it.
fn is_root(folder: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    fs::metadata(folder).unwrap().uid() == 0
}

fn postgres_user() -> Owner {
    let users = fs::read_to_string("/etc/passwd").unwrap();
    let line = users.lines().find(|line| line.starts_with("postgres:"));
    let fields: Vec<&str> = line
        .unwrap_or_else(|| panic!("no user `postgres`"))
        .split(':')
        .collect();
    Owner {
        uid: fields[2].parse().unwrap(),
        gid: fields[3].parse().unwrap(),
    }
}

#[cfg(test)]
mod tests {
    use sqlx::{Connection, PgConnection};

    use super::*;

    #[tokio::test]
    async fn what_was_committed_survives_an_immediate_stop() {
        let cluster = PrivatePostgres::start();
        let mut connection = PgConnection::connect(&cluster.url()).await.unwrap();
        let set_up = "create table kept (id int); create extension pg_stat_statements";
        sqlx::raw_sql(set_up)
            .execute(&mut connection)
            .await
            .unwrap();
        sqlx::query("insert into kept values (7)")
            .execute(&mut connection)
            .await
            .unwrap();
        let first = cluster.postmaster();

        cluster.stop_immediate();
        assert!(
            sqlx::query("select 1")
                .execute(&mut connection)
                .await
                .is_err()
        );
        assert!(PgConnection::connect(&cluster.url()).await.is_err());
        cluster.restart();

        assert_ne!(cluster.postmaster(), first);
        let mut connection = PgConnection::connect(&cluster.url()).await.unwrap();
        let kept: i32 = sqlx::query_scalar("select id from kept")
            .fetch_one(&mut connection)
            .await
            .unwrap();
        let fsync: String = sqlx::query_scalar("show fsync")
            .fetch_one(&mut connection)
            .await
            .unwrap();
        assert_eq!((kept, &*fsync), (7, "on"));
    }

    #[tokio::test]
    async fn nothing_is_left_of_a_cluster_that_is_dropped() {
        let cluster = PrivatePostgres::start();
        let (postmaster, folder) = (cluster.postmaster(), cluster.folder.path().to_owned());
        drop(cluster);
        // One that has ended, but that its parent took no note of, has no command line.
        let running = fs::read(format!("/proc/{postmaster}/cmdline")).unwrap_or_default();
        assert_eq!(String::from_utf8_lossy(&running), "");
        assert!(!folder.exists());
    }
}
