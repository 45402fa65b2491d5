//! Settings: one name each as flag, environment variable and line of the file.

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use anyhow::{Context, anyhow, bail};
use clap::{Args, CommandFactory, ValueEnum};
use ipnet::IpNet;
use ringback_model::{Quotas, Retention};
use serde::Deserialize;

/// What an operator can set. `--database-url`, `RINGBACK_DATABASE_URL` and
/// `database_url` in `ringback.toml` are the same setting; the first one given wins.
#[derive(Args, Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Where everything is stored: `sqlite:FILE` or `postgres://…`
    #[arg(
        long,
        env = "RINGBACK_DATABASE_URL",
        hide_env_values = true,
        value_name = "URL"
    )]
    pub database_url: Option<Secret>,

    /// The address to listen on [default: 127.0.0.1:7464]
    #[arg(long, env = "RINGBACK_LISTEN", value_name = "ADDRESS")]
    pub listen: Option<SocketAddr>,

    /// What this process does [default: api,dispatcher]
    #[arg(
        long,
        env = "RINGBACK_ROLES",
        value_delimiter = ',',
        value_name = "ROLES"
    )]
    pub roles: Option<Vec<Role>>,

    /// This process's name among the nodes; one that comes back under its name takes up
    /// its work at once [default: host name and port]
    #[arg(long, env = "RINGBACK_NODE_NAME", value_name = "NAME")]
    pub node_name: Option<String>,

    /// The URL that clients reach this service by, for absolute links
    #[arg(long, env = "RINGBACK_PUBLIC_URL", value_name = "URL")]
    pub public_url: Option<String>,

    /// The file with the key that secrets are encrypted with
    #[arg(long, env = "RINGBACK_SECRETS_KEY_FILE", value_name = "FILE")]
    pub secrets_key_file: Option<PathBuf>,

    /// That key itself; from the environment only, since flags can be seen by others
    #[arg(skip)]
    #[serde(skip)]
    pub secrets_key: Option<Secret>,

    /// An address range that deliveries may go to although it is not public; repeatable
    #[arg(
        long,
        env = "RINGBACK_EGRESS_ALLOW_CIDR",
        value_delimiter = ',',
        value_name = "CIDR"
    )]
    pub egress_allow_cidr: Option<Vec<IpNet>>,

    /// An address range that deliveries must not go to; repeatable, outranks every other
    #[arg(
        long,
        env = "RINGBACK_EGRESS_DENY_CIDR",
        value_delimiter = ',',
        value_name = "CIDR"
    )]
    pub egress_deny_cidr: Option<Vec<IpNet>>,

    /// Let subscriptions have `http://` URLs
    #[arg(long, env = "RINGBACK_EGRESS_ALLOW_HTTP", num_args = 0..=1, default_missing_value = "true", value_name = "BOOL")]
    pub egress_allow_http: Option<bool>,

    /// A DNS server for receivers' names, instead of the system's; repeatable
    #[arg(
        long,
        env = "RINGBACK_EGRESS_DNS",
        value_delimiter = ',',
        value_name = "ADDRESS"
    )]
    pub egress_dns: Option<Vec<SocketAddr>>,

    /// How many attempts may be under way at once on this node [default: 512]
    #[arg(long, env = "RINGBACK_MAX_IN_FLIGHT", value_name = "COUNT")]
    pub max_in_flight: Option<usize>,

    /// Of them, how many to one host, over all subscriptions [default: 256]
    #[arg(long, env = "RINGBACK_MAX_IN_FLIGHT_PER_HOST", value_name = "COUNT")]
    pub max_in_flight_per_host: Option<usize>,

    /// For how many days after its own an event can be looked up and replayed; the same
    /// on every node [default: 30]
    #[arg(long, env = "RINGBACK_RETENTION_DAYS", value_name = "DAYS")]
    pub retention_days: Option<u16>,

    /// How many events per second an application may bring in on each node, unless it has
    /// a quota of its own [default: no limit]
    #[arg(long, env = "RINGBACK_QUOTA_EVENTS_PER_S", value_name = "EVENTS")]
    pub quota_events_per_s: Option<f64>,

    /// How many deliveries of an application may be pending, unless it has a quota of its
    /// own [default: no limit]
    #[arg(
        long,
        env = "RINGBACK_QUOTA_PENDING_DELIVERIES",
        value_name = "DELIVERIES"
    )]
    pub quota_pending_deliveries: Option<u64>,

    /// How many bytes of an application's events may be kept, unless it has a quota of its
    /// own [default: no limit]
    #[arg(long, env = "RINGBACK_QUOTA_STORED_BYTES", value_name = "BYTES")]
    pub quota_stored_bytes: Option<u64>,
}

/// What a process does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Answers HTTP.
    Api,
    /// Sends deliveries.
    Dispatcher,
}

/// Where everything is stored. Its `Debug` hides the password.
#[derive(Clone, PartialEq, Eq)]
pub enum DatabaseUrl {
    /// A file of SQLite.
    Sqlite(PathBuf),
    /// A PostgreSQL server.
    Postgres(String),
}

/// A setting that is, or holds, a secret. Any text is one, so that nothing that reads
/// settings has a reason to quote it.
#[derive(Clone, Deserialize)]
#[serde(transparent)]
pub struct Secret(pub String);

const FILE: &str = "ringback.toml";
/// Names in the environment that are no settings, but ours.
const OTHER_NAMES: [&str; 4] = [
    "RINGBACK_CONFIG",
    "RINGBACK_SERVER",
    "RINGBACK_KEY",
    "RINGBACK_SECRETS_KEY",
];

impl Settings {
    /// Fills in what flags and environment left open from `file`, which is
    /// `ringback.toml` in this folder if none is named and there is one.
    ///
    /// # Errors
    ///
    /// If the file cannot be read, or it or the environment names an unknown setting.
    pub fn complete(mut self, file: Option<&Path>) -> anyhow::Result<Self> {
        refuse_unknown_variables(std::env::vars().map(|(name, _)| name))?;
        self.secrets_key = std::env::var("RINGBACK_SECRETS_KEY").ok().map(Secret);
        let path = match file {
            Some(path) => path,
            None if Path::new(FILE).exists() => Path::new(FILE),
            None => return Ok(self),
        };
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read {}", path.display()))?;
        let file = from_toml(&text).with_context(|| path.display().to_string())?;
        Ok(self.or(file))
    }

    fn or(self, file: Self) -> Self {
        Self {
            database_url: self.database_url.or(file.database_url),
            listen: self.listen.or(file.listen),
            roles: self.roles.or(file.roles),
            node_name: self.node_name.or(file.node_name),
            public_url: self.public_url.or(file.public_url),
            secrets_key_file: self.secrets_key_file.or(file.secrets_key_file),
            secrets_key: self.secrets_key,
            egress_allow_cidr: self.egress_allow_cidr.or(file.egress_allow_cidr),
            egress_deny_cidr: self.egress_deny_cidr.or(file.egress_deny_cidr),
            egress_allow_http: self.egress_allow_http.or(file.egress_allow_http),
            egress_dns: self.egress_dns.or(file.egress_dns),
            max_in_flight: self.max_in_flight.or(file.max_in_flight),
            max_in_flight_per_host: self.max_in_flight_per_host.or(file.max_in_flight_per_host),
            retention_days: self.retention_days.or(file.retention_days),
            quota_events_per_s: self.quota_events_per_s.or(file.quota_events_per_s),
            quota_pending_deliveries: self
                .quota_pending_deliveries
                .or(file.quota_pending_deliveries),
            quota_stored_bytes: self.quota_stored_bytes.or(file.quota_stored_bytes),
        }
    }

    /// Where everything is stored: `sqlite:ringback.db` unless set.
    ///
    /// # Errors
    ///
    /// If what is set is no such URL.
    pub fn database(&self) -> anyhow::Result<DatabaseUrl> {
        match &self.database_url {
            Some(Secret(url)) => url
                .parse()
                .map_err(anyhow::Error::msg)
                .context("database_url"),
            None => Ok(DatabaseUrl::Sqlite("ringback.db".into())),
        }
    }

    /// How long days are kept: 30 of them unless set.
    ///
    /// # Errors
    ///
    /// If what is set is too short or too long.
    pub fn retention(&self) -> anyhow::Result<Retention> {
        match self.retention_days {
            Some(days) => Retention::of_days(days).context("retention_days"),
            None => Ok(Retention::default()),
        }
    }

    /// What applications may bring in that have no quotas of their own.
    ///
    /// # Errors
    ///
    /// If one is out of its range.
    pub fn quotas(&self) -> anyhow::Result<Quotas> {
        let quotas = Quotas {
            events_per_s: self.quota_events_per_s,
            pending_deliveries: self.quota_pending_deliveries,
            stored_bytes: self.quota_stored_bytes,
        };
        match quotas.fault() {
            Some((quota, fault)) => bail!("quota_{} {fault}", quota.as_str()),
            None => Ok(quotas),
        }
    }

    /// The address to listen on.
    pub fn listen(&self) -> SocketAddr {
        self.listen
            .unwrap_or(SocketAddr::from(([127, 0, 0, 1], 7464)))
    }

    /// Whether this process has a role.
    pub fn has_role(&self, role: Role) -> bool {
        self.roles
            .as_ref()
            .is_none_or(|roles| roles.contains(&role))
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl std::str::FromStr for DatabaseUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.starts_with("postgres://") || text.starts_with("postgresql://") {
            return Ok(Self::Postgres(text.to_owned()));
        }
        match text
            .strip_prefix("sqlite:")
            .map(|path| path.strip_prefix("//").unwrap_or(path))
        {
            Some(path) if !path.is_empty() => Ok(Self::Sqlite(path.into())),
            _ => Err("use `sqlite:FILE` or `postgres://USER:PASSWORD@HOST/DATABASE`".to_owned()),
        }
    }
}

impl std::fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Sqlite(path) => write!(f, "sqlite:{}", path.display()),
            Self::Postgres(url) => {
                let address = url.split('?').next().unwrap_or_default();
                let host = address.rsplit_once('@').map_or("", |(_, rest)| rest);
                write!(f, "postgres://***@{host}")
            }
        }
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

fn from_toml(text: &str) -> anyhow::Result<Settings> {
    let table: toml::Table = text.parse().map_err(|error| without_quote(text, &error))?;
    let known: Vec<String> = setting_names().collect();
    for name in table.keys() {
        if !known.contains(name) {
            bail!("there is no setting `{name}`{}", suggestion(name, &known));
        }
    }
    Ok(table.try_into()?)
}

/// The parser's own words quote the line, which may hold a password.
fn without_quote(text: &str, error: &toml::de::Error) -> anyhow::Error {
    let before = error
        .span()
        .and_then(|span| text.get(..span.start))
        .unwrap_or_default();
    let line = before.matches('\n').count() + 1;
    anyhow!("line {line}: {}", error.message())
}

/// A mistyped variable would silently not be set.
fn refuse_unknown_variables(names: impl Iterator<Item = String>) -> anyhow::Result<()> {
    let known: Vec<String> = setting_names()
        .map(|name| format!("RINGBACK_{}", name.to_uppercase()))
        .chain(OTHER_NAMES.map(str::to_owned))
        .collect();
    for name in names {
        let ours = name.starts_with("RINGBACK_") && !name.starts_with("RINGBACK_TEST_");
        if ours && !known.contains(&name) {
            bail!(
                "there is no setting `{name}` in the environment{}",
                suggestion(&name, &known)
            );
        }
    }
    Ok(())
}

fn setting_names() -> impl Iterator<Item = String> {
    #[derive(clap::Parser)]
    struct Only {
        #[command(flatten)]
        _settings: Settings,
    }
    let names: BTreeSet<String> = Only::command()
        .get_arguments()
        .map(|arg| arg.get_id().to_string())
        .collect();
    names.into_iter()
}

fn suggestion(name: &str, known: &[String]) -> String {
    let near = known
        .iter()
        .map(|candidate| (strsim::jaro_winkler(name, candidate), candidate))
        .max_by(|a, b| a.0.total_cmp(&b.0));
    match near {
        Some((likeness, candidate)) if likeness > 0.8 => format!("; did you mean `{candidate}`?"),
        _ => format!("; settings are {}", known.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_has_the_same_names_and_refuses_others() {
        let settings = from_toml(
            "database_url = 'sqlite:/var/lib/ringback.db'\negress_allow_cidr = ['10.0.0.0/8']\nroles = ['api']",
        )
        .unwrap();
        let database = DatabaseUrl::Sqlite("/var/lib/ringback.db".into());
        assert_eq!(settings.database().unwrap(), database);
        assert!(settings.has_role(Role::Api) && !settings.has_role(Role::Dispatcher));

        let error = from_toml("databse_url = 'x'").unwrap_err().to_string();
        assert_eq!(
            error,
            "there is no setting `databse_url`; did you mean `database_url`?"
        );
    }

    #[test]
    fn what_is_wrong_with_the_file_is_told_without_quoting_it() {
        let bare = "listen = '127.0.0.1:1'\ndatabase_url = postgres://ana:pa55@db.example/x\n";
        for text in [
            bare,
            "\ndatabase_url = ['postgres://ana:pa55@db.example/x']",
        ] {
            let error = format!("{:#}", from_toml(text).unwrap_err());
            assert!(!error.contains("pa55"), "{error}");
        }
        let error = from_toml(bare).unwrap_err().to_string();
        assert!(error.starts_with("line 2: "), "{error}");
    }

    #[test]
    fn an_unknown_variable_is_refused_with_a_suggestion() {
        let check = |name: &str| refuse_unknown_variables([name.to_owned()].into_iter());
        assert!(check("RINGBACK_LISTEN").is_ok() && check("PATH").is_ok());
        let error = check("RINGBACK_LISTN").unwrap_err().to_string();
        assert!(
            error.ends_with("did you mean `RINGBACK_LISTEN`?"),
            "{error}"
        );
    }

    #[test]
    fn days_are_kept_as_long_as_is_set_and_no_shorter_than_is_safe() {
        assert_eq!(
            Settings::default().retention().unwrap(),
            Retention::default()
        );
        for (days, kept) in [(3, false), (4, true), (90, true), (401, false)] {
            let settings = from_toml(&format!("retention_days = {days}")).unwrap();
            assert_eq!(settings.retention().is_ok(), kept, "{days}");
        }
        let settings = from_toml("retention_days = 1").unwrap();
        let error = format!("{:#}", settings.retention().unwrap_err());
        assert_eq!(error, "retention_days: must be between 4 and 400 days");
    }

    #[test]
    fn a_quota_that_is_out_of_its_range_is_refused() {
        let settings = from_toml("quota_events_per_s = 0.5\nquota_stored_bytes = 7").unwrap();
        let expected = Quotas {
            events_per_s: Some(0.5),
            pending_deliveries: None,
            stored_bytes: Some(7),
        };
        assert_eq!(settings.quotas().unwrap(), expected);
        let settings = from_toml("quota_pending_deliveries = 0").unwrap();
        let error = settings.quotas().unwrap_err().to_string();
        assert!(
            error.starts_with("quota_pending_deliveries must be from 1 to"),
            "{error}"
        );
    }

    #[test]
    fn a_database_is_named_by_its_url_and_printed_without_password() {
        let cases = [
            ("sqlite:a.db", "sqlite:a.db"),
            ("sqlite:///var/a.db", "sqlite:/var/a.db"),
            (
                "postgres://ana:pa55@db.example/ringback",
                "postgres://***@db.example/ringback",
            ),
            (
                "postgres://ana@db.example/x?password=p@55",
                "postgres://***@db.example/x",
            ),
        ];
        for (url, printed) in cases {
            assert_eq!(
                format!("{:?}", url.parse::<DatabaseUrl>().unwrap()),
                printed
            );
        }
        for bad in [
            "",
            "mysql://x",
            "sqlite:",
            "ringback.db",
            "postgres:/ana:pa55@x",
        ] {
            let settings = Settings {
                database_url: Some(bad.into()),
                ..Settings::default()
            };
            let error = format!("{:#}", settings.database().unwrap_err());
            assert!(
                error.starts_with("database_url: use `sqlite:FILE`"),
                "{error}"
            );
        }
    }
}
