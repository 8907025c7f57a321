//! The command line: what each subcommand takes. What it does is in the module of its name.

use std::{net::SocketAddr, path::PathBuf, str::FromStr};

use clap::{Args, Parser, Subcommand, ValueEnum};
use nabe_check::Suite;
use nabe_http::tls::CertificateProfile;
use nabe_store::ReportState;
use nabe_types::{RoomId, ServerName, UserId};

use crate::client::ClientArgs;
use crate::decode::{Asked, Form};

/// A server and toolkit with which messaging providers talk to each other, and prove that they can.
///
/// Start with `nabe demo`: it runs three providers on this machine, lets them talk over real TLS, and verifies what each of
/// them received.
#[derive(Debug, Parser)]
#[command(version, propagate_version = true, after_help = EXIT_STATUS)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

const EXIT_STATUS: &str = "\
Exit status:
  0  done, and everything that was checked holds
  1  something that was checked does not hold (a vector, a conformance case, a step of the demo)
  2  the command line is wrong
  3  the configuration, a key or an input file cannot be used
  4  the work failed on the way (network, database, operating system)";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run three providers on this machine, let them talk, and verify every log
    Demo(Demo),
    /// Write a configuration, a signing key and, if asked, a development certificate
    Init(Init),
    /// Run a server
    Serve(ConfigFile),
    /// Look at a configuration
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Manage the signing keys
    #[command(subcommand)]
    Keys(KeysCommand),
    /// Manage users
    #[command(subcommand)]
    User(UserCommand),
    /// Look at rooms
    #[command(subcommand)]
    Room(RoomCommand),
    /// Look at reports of abuse in rooms of MIMI, and decide about them
    #[command(subcommand)]
    Report(ReportCommand),
    /// Take bytes or JSON apart, field by field: MIMI's requests and answers, MLS, MIMI content, events, signed requests
    Decode(Decode),
    /// Check franks, by which a hub knows what was reported to it
    #[command(subcommand)]
    Frank(FrankCommand),
    /// Work with test vectors
    #[command(subcommand)]
    Vectors(VectorsCommand),
    /// Take part in encrypted rooms: one device of one user, end to end
    Client(ClientArgs),
    /// Run conformance checks against a server, Nabe or not
    Check(Check),
    /// Measure
    #[command(subcommand)]
    Bench(BenchCommand),
    /// Print a completion script for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Demo {
    /// Which protocols the providers speak with each other
    #[arg(long, value_enum, default_value_t = DemoProtocol::All)]
    pub(crate) protocol: DemoProtocol,
    /// Print one JSON document instead of the story
    #[arg(long)]
    pub(crate) json: bool,
    /// Leave the servers running afterwards and print their addresses; end with Ctrl-C
    #[arg(long)]
    pub(crate) keep: bool,
}

/// Which stories the demo tells.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum DemoProtocol {
    /// Linearized Matrix: a room, and an encrypted one
    Lm,
    /// MIMI: the story of the draft
    Mimi,
    /// One after the other
    All,
}

impl DemoProtocol {
    /// Whether Linearized Matrix is told.
    pub(crate) const fn is_lm(self) -> bool {
        matches!(self, Self::Lm | Self::All)
    }

    /// Whether MIMI is told.
    pub(crate) const fn is_mimi(self) -> bool {
        matches!(self, Self::Mimi | Self::All)
    }
}

#[derive(Debug, Args)]
pub(crate) struct Init {
    /// The folder to fill; made if it is missing
    pub(crate) dir: PathBuf,
    /// The name other servers know this one by, such as `chat.example.org`
    #[arg(long)]
    pub(crate) server_name: ServerName,
    /// Also make a development CA and a certificate for the server name: for trying things out, never for the Internet
    #[arg(long)]
    pub(crate) dev_tls: bool,
    /// Issue the development certificate from the CA of this folder (`ca.pem`, `ca.key`) instead of a new one
    #[arg(long, requires = "dev_tls", value_name = "DIR")]
    pub(crate) dev_ca: Option<PathBuf>,
    /// What the development certificate may be used for; of a MIMI provider `mutual` unless given
    #[arg(long, requires = "dev_tls", value_name = "PROFILE")]
    pub(crate) certificate_profile: Option<Profile>,
    /// Also be a MIMI provider, of this domain
    #[arg(long, value_name = "DOMAIN")]
    pub(crate) mimi: Option<ServerName>,
}

/// What a certificate of the development CA may be used for.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum Profile {
    /// `serverAuth` only, as public authorities issue them now
    Server,
    /// `serverAuth` and `clientAuth`
    Mutual,
}

impl From<Profile> for CertificateProfile {
    fn from(profile: Profile) -> Self {
        match profile {
            Profile::Server => Self::Server,
            Profile::Mutual => Self::Mutual,
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct ConfigFile {
    /// The configuration file
    ///
    /// Each of its options can be given as an environment variable, too: `NABE_LISTEN__ADDRESS` for `address` in `[listen]`.
    /// An empty variable takes the option out of the file.
    #[arg(long, short, env = "NABE_CONFIG", default_value = "nabe.toml")]
    pub(crate) config: PathBuf,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Read the configuration and every file it names; say what is wrong
    Check(ConfigFile),
}

#[derive(Debug, Subcommand)]
pub(crate) enum KeysCommand {
    /// Make a new signing key and retire the current one; the server must not be running
    Rotate(ConfigFile),
    /// Show the key IDs and public keys
    Show(ConfigFile),
}

#[derive(Debug, Subcommand)]
pub(crate) enum UserCommand {
    /// Make a user (if new) and print a bearer token for the client API; the server must not be running
    Add {
        #[command(flatten)]
        config: ConfigFile,
        /// The part before the colon of `@alice:example.org`
        localpart: String,
        /// The device the token stands for
        #[arg(long)]
        device: Option<String>,
    },
    /// Delete a user for good: tokens, devices, key packages; nobody gets the name again; the server must not be running
    Delete {
        #[command(flatten)]
        config: ConfigFile,
        /// The part before the colon of `@alice:example.org`
        localpart: String,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum RoomCommand {
    /// Show a room as this server has it; the server must not be running
    Show {
        #[command(flatten)]
        config: ConfigFile,
        /// The room; without it, all rooms are listed
        room: Option<RoomId>,
        /// Also print the newest N events
        #[arg(long, default_value_t = 0)]
        events: u32,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum ReportCommand {
    /// List the reports that nobody has decided about; the server must not be running
    List {
        #[command(flatten)]
        config: ConfigFile,
        /// Also those that were decided about
        #[arg(long)]
        all: bool,
    },
    /// Show a report with what its messages say and are worth; the server must not be running
    Show {
        #[command(flatten)]
        config: ConfigFile,
        /// Its number
        number: i64,
    },
    /// Decide about a report, or open it again; the server must not be running
    Decide {
        #[command(flatten)]
        config: ConfigFile,
        /// Its number
        number: i64,
        /// `resolved`, `dismissed` or `open`
        #[arg(value_parser = crate::report::state)]
        state: ReportState,
        /// What there is to say about it
        #[arg(long, default_value = "", value_parser = crate::report::remark)]
        remark: String,
    },
}

#[derive(Debug, Args)]
#[command(after_help = DECODE_HELP)]
pub(crate) struct Decode {
    /// The input; `-` for standard input
    ///
    /// Bytes in hexadecimal (with any spaces, colons, commas, `0x` and `#` comments), in base64 (either alphabet, padded or
    /// not), between `-----BEGIN …-----` lines, or as they are; or the JSON of an event, or of a request as
    /// `{"method","uri","headers"|"authorization","content"}`.
    #[arg(default_value = "-")]
    pub(crate) file: PathBuf,
    /// What the input is, by its name in the drafts, such as `KeyPackage`, `content` or `notify`; `help` lists all of them.
    /// Without it, the input is guessed, and what else it may be is said
    #[arg(long = "as", value_name = "TYPE", value_parser = Asked::parse)]
    pub(crate) as_type: Option<Asked>,
    /// How the input is written down. Without it, that is guessed, too
    #[arg(long, value_enum, value_name = "FORM")]
    pub(crate) from: Option<Form>,
    /// Do not cut long values
    #[arg(long)]
    pub(crate) full: bool,
    /// Events: the room version whose rules apply
    #[arg(long, default_value = "I.1")]
    pub(crate) room_version: String,
    /// Events and requests: a public key to verify with: `server,ed25519:id,base64`; may be repeated
    #[arg(long = "key", value_name = "SERVER,KEYID,BASE64")]
    pub(crate) keys: Vec<String>,
    /// Events and requests: a server key response (the body of `/_matrix/key/v2/server`) to take keys from; may be repeated
    #[arg(long, value_name = "FILE")]
    pub(crate) key_response: Vec<PathBuf>,
    /// Print one JSON document
    #[arg(long)]
    pub(crate) json: bool,
}

const DECODE_HELP: &str = "\
Examples:
  nabe decode key-package.bin
  echo '87 50 0001…' | nabe decode --as content
  pbpaste | nabe decode --as notify --json

Exit status:
  0  well-formed, and nothing in it was found false
  1  malformed (where and by which rule is printed, after what was read before), or a hash or signature does not hold
  2  the command line is wrong
  3  the input cannot be read: no such file, neither hex nor base64, no JSON";

#[derive(Debug, Subcommand)]
pub(crate) enum FrankCommand {
    /// Check a frank: the sender's tag, the hub's stamp and signature, and who is named
    Verify(FrankVerify),
}

#[derive(Debug, Args)]
#[command(after_help = FRANK_HELP)]
pub(crate) struct FrankVerify {
    /// A report: the body of a `reportAbuse` request. Each of its messages is checked
    #[arg(long, value_name = "BYTES", conflicts_with_all = ["content", "frank", "accepted"])]
    pub(crate) report: Option<String>,
    /// The message, as it was decrypted: MIMI content, framed with its media type or not
    #[arg(long, value_name = "BYTES", required_unless_present = "report", requires_all = ["frank", "accepted"])]
    pub(crate) content: Option<String>,
    /// The hub's `Frank`: server frank, cipher suite, integrity signature
    #[arg(long, value_name = "BYTES")]
    pub(crate) frank: Option<String>,
    /// When the hub accepted the message, in milliseconds since 1970
    #[arg(long, value_name = "MS")]
    pub(crate) accepted: Option<u64>,
    /// The franking tag: 32 bytes, or the `SafeAAD` of the MLS message
    #[arg(long, value_name = "BYTES", conflicts_with = "report")]
    pub(crate) tag: Option<String>,
    /// The group's franking agent: its public key, or its `FrankingAgentData`, which also says whose it is
    #[arg(long, value_name = "BYTES")]
    pub(crate) agent: Option<String>,
    /// A secret key of the hub, 32 bytes, as only the hub has it; may be repeated, for old keys
    #[arg(long, value_name = "BYTES")]
    pub(crate) hub_key: Vec<String>,
    /// The user in the credential of who sent the message
    #[arg(long, value_name = "URI")]
    pub(crate) sender: Option<String>,
    /// The room that the message came in
    #[arg(long, value_name = "URI")]
    pub(crate) room: Option<String>,
    /// The group's cipher suite by its number
    #[arg(long, value_name = "NUMBER")]
    pub(crate) suite: Option<u16>,
    /// Print one JSON document
    #[arg(long)]
    pub(crate) json: bool,
}

const FRANK_HELP: &str = "\
BYTES are hexadecimal or base64, or @FILE (@- is standard input) with either or with the bytes themselves.

What cannot be checked for want of --tag, --agent or --hub-key is said to be open, and is no failure. Who sent a reported message is
known by --hub-key alone.

Exit status:
  0  everything that could be checked holds
  1  something does not hold
  2  the command line is wrong
  3  an input cannot be read, or nothing was given to check against";

#[derive(Debug, Subcommand)]
pub(crate) enum VectorsCommand {
    /// Verify every entry of vector files; see `drafts/README.md` for the format
    Verify {
        /// The files
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Check {
    /// What to check; without it, the suites and their cases are listed
    #[arg(long)]
    pub(crate) suite: Option<Suite>,
    /// Where the subject listens, such as `https://127.0.0.1:8448`
    #[arg(long, value_name = "URL", required_unless_present = "list", requires_all = ["suite", "dev_ca", "provider_token"])]
    pub(crate) subject: Option<String>,
    /// List the cases and what they expect, run nothing
    #[arg(long, conflicts_with = "subject")]
    pub(crate) list: bool,
    /// The subject's server name; the URL's host and port if absent
    #[arg(long, value_name = "NAME")]
    pub(crate) subject_name: Option<ServerName>,
    /// The authority (PEM) of the subject's certificate; the one of --dev-ca if absent
    #[arg(long, value_name = "FILE")]
    pub(crate) ca: Option<PathBuf>,
    /// A folder with `ca.pem` and `ca.key`: the checker's own servers get their certificates from it, the subject must trust it
    #[arg(long, value_name = "DIR")]
    pub(crate) dev_ca: Option<PathBuf>,
    /// A server the checker plays and where it listens, such as `p.example=127.0.0.1:9001`; may be repeated. Without it, the
    /// checker's servers are `localhost:PORT`, which the subject must be able (and allowed) to connect to
    #[arg(long, value_name = "NAME=ADDRESS", value_parser = parse_peer)]
    pub(crate) peer: Vec<(ServerName, SocketAddr)>,
    /// The subject's domain as a provider of MIMI; the host of its server name if absent
    #[arg(long, value_name = "DOMAIN")]
    pub(crate) mimi_domain: Option<ServerName>,
    /// Where the subject listens for providers of MIMI; port 443 of its domain if absent
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) mimi_address: Option<SocketAddr>,
    /// A provider of MIMI the checker plays and where it listens, such as `b.example=127.0.0.1:9001`; the suites `mimi-…` need
    /// two, which the subject must reach as port 443 of these domains
    #[arg(long, value_name = "DOMAIN=ADDRESS", value_parser = parse_peer)]
    pub(crate) mimi_peer: Vec<(ServerName, SocketAddr)>,
    /// A shell command that ends the subject as a power cut would (`kill -9`) and has it start again with what it has stored; without it, the
    /// cases about that are skipped
    #[arg(long, value_name = "COMMAND")]
    pub(crate) restart_command: Option<String>,
    /// The credential of a provider backend on the subject's client API, which plays the subject's users
    #[arg(long, env = "NABE_TEST_PROVIDER_TOKEN", hide_env_values = true)]
    pub(crate) provider_token: Option<String>,
    /// Only these cases: IDs separated by commas, `lm-4*` for all that begin so
    #[arg(long, default_value = "")]
    pub(crate) only: String,
    /// Print one JSON document
    #[arg(long)]
    pub(crate) json: bool,
}

fn parse_peer(text: &str) -> Result<(ServerName, SocketAddr), String> {
    let (name, address) = text.split_once('=').ok_or("not NAME=ADDRESS")?;
    let name = ServerName::parse(name).map_err(|error| error.to_string())?;
    Ok((
        name,
        address
            .parse()
            .map_err(|_| format!("`{address}` is no address with a port"))?,
    ))
}

#[derive(Debug, Subcommand)]
pub(crate) enum BenchCommand {
    /// Accepted events per second and hub CPU time per event: client, hub and followers as separate processes
    Hub(BenchHub),
    /// How long a server with many rooms on disk takes to start, and what memory it takes: idle, and for each room that is used
    Start(BenchStart),
    /// Commits in an encrypted room with many devices, end to end: every device a client of its own, the server a process
    Group(BenchGroup),
    /// What operations on MLS groups cost, up to 10,000 members: times, bytes and counts, as data and as a report
    Mls(Box<BenchMls>),
    /// What happens to a room, as a file says it: by the library alone, and through two servers by either protocol
    Scenario(BenchScenario),
    /// What changed between two runs of `bench mls` or `bench scenario` beyond noise
    Compare {
        /// The directory of the first, or its run.json
        before: PathBuf,
        /// And of the second
        after: PathBuf,
    },
    /// A worker of `bench mls`, by itself: reads requests and writes figures, one JSON object a line
    MlsWorker {
        /// The implementation
        #[arg(value_enum)]
        implementation: BenchWorker,
    },
    /// The acknowledging follower of `bench hub`
    #[command(hide = true)]
    Sink {
        /// Where its key, certificate and address are
        dir: PathBuf,
    },
}

#[derive(Debug, Args)]
pub(crate) struct BenchHub {
    /// Which protocol the hub is asked by
    #[arg(long, value_enum, default_value_t = BenchProtocol::Lm)]
    pub(crate) protocol: BenchProtocol,
    /// Events to send; of MIMI, messages in rooms without followers, and as many in rooms with them
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub(crate) events: u32,
    /// Rooms the events are spread over
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) rooms: u32,
    /// Events in one transaction, at most 50; of Linearized Matrix [default: 50]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=50))]
    pub(crate) batch: Option<u32>,
    /// Origin servers sending at once; of Linearized Matrix [default: 1]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub(crate) origins: Option<u32>,
    /// Servers that follow the rooms beside those that send; of MIMI, of the rooms with followers [default: 0; of MIMI, 10]
    #[arg(long, value_parser = clap::value_parser!(u32).range(0..=100))]
    pub(crate) followers: Option<u32>,
    /// Users on the participant list of each room beside those who send and follow: 60,000 of them make a GroupInfo of more than 2 MB;
    /// of MIMI [default: 0]
    #[arg(long)]
    pub(crate) participants: Option<u32>,
    /// Messages on their way to the hub at once; of MIMI [default: 32]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub(crate) in_flight: Option<u32>,
    /// Then as many events again at this rate, sent when they are due whatever has become of those before; latencies count from
    /// then. Events a second, or `half` of what was accepted before
    #[arg(long, value_name = "NUMBER|half")]
    pub(crate) rate: Option<BenchRate>,
    /// Print one JSON document
    #[arg(long)]
    pub(crate) json: bool,
}

/// How much is sent when the load is open: see `--rate`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum BenchRate {
    /// Half of what was accepted of as much as could be sent.
    Half,
    /// So many events a second.
    PerSecond(u32),
}

impl FromStr for BenchRate {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match (text, text.parse()) {
            ("half", _) => Ok(Self::Half),
            (_, Ok(events @ 1..=1_000_000)) => Ok(Self::PerSecond(events)),
            _ => Err("neither `half` nor a number of events a second from 1 to 1000000"),
        }
    }
}

impl BenchHub {
    /// What is wrong with the options together.
    pub(crate) fn fault(&self) -> Option<String> {
        let (others, theirs) = match self.protocol {
            BenchProtocol::Lm => (
                "mimi",
                [("--participants", self.participants), ("--in-flight", self.in_flight)],
            ),
            BenchProtocol::Mimi => ("lm", [("--batch", self.batch), ("--origins", self.origins)]),
        };
        if let Some((option, _)) = theirs.iter().find(|(_, given)| given.is_some()) {
            return Some(format!("{option} is for --protocol {others}"));
        }
        let origins = self.origins.unwrap_or(1);
        (self.events < origins).then(|| {
            format!(
                "--events {} is less than one for each of --origins {origins}",
                self.events
            )
        })
    }
}

impl BenchStart {
    /// What is wrong with the options together.
    pub(crate) fn fault(&self) -> Option<String> {
        let (active, rooms) = (self.active, self.rooms);
        (active > rooms).then(|| format!("--active {active} is more than there are: --rooms {rooms}"))
    }
}

#[derive(Debug, Args)]
pub(crate) struct BenchStart {
    /// Which protocol's rooms
    #[arg(long, value_enum, default_value_t = BenchProtocol::Lm)]
    pub(crate) protocol: BenchProtocol,
    /// Rooms on disk
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub(crate) rooms: u32,
    /// Rooms that are used once the server runs, at most all of them
    #[arg(long, default_value_t = 1_000)]
    pub(crate) active: u32,
    /// How often the server is started
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(crate) starts: u32,
    /// Print one JSON document
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct BenchMls {
    /// Groups up to 300 members and few samples: a report in less than three minutes
    #[arg(long, conflicts_with = "resume")]
    pub(crate) quick: bool,
    /// Where run.json, the CSV files and report.html go; must not hold a run yet
    #[arg(
        long,
        value_name = "DIR",
        default_value = "nabe-bench-mls",
        conflicts_with = "resume"
    )]
    pub(crate) out: PathBuf,
    /// Go on with the run in this directory, with its settings
    #[arg(long, value_name = "DIR")]
    pub(crate) resume: Option<PathBuf>,
    /// Decides the order, and in each group who sits where and who comes and goes
    #[arg(long, default_value_t = 1, conflicts_with = "resume")]
    pub(crate) seed: u64,
    /// Seconds that a cell may take altogether; ten times that for what a group takes to prepare
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=86_400), conflicts_with = "resume")]
    pub(crate) budget: Option<u64>,
    /// Samples of a cell, at most
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..=100_000), conflicts_with = "resume")]
    pub(crate) samples: Option<u32>,
    /// Numbers of members, separated by commas
    #[arg(long, value_delimiter = ',', conflicts_with = "resume")]
    pub(crate) sizes: Vec<u32>,
    /// Operations, such as `update,hub`
    #[arg(long, value_delimiter = ',', conflicts_with = "resume")]
    pub(crate) operations: Vec<nabe_lab::cell::Operation>,
    /// Shapes of the tree: fresh, full, churned, sparse
    #[arg(long, value_delimiter = ',', conflicts_with = "resume")]
    pub(crate) shapes: Vec<nabe_lab::cell::Shape>,
    /// MLS cipher suites, by number
    #[arg(long, value_delimiter = ',', conflicts_with = "resume")]
    pub(crate) suites: Vec<u16>,
    /// Implementations; all that there is a worker for unless given
    #[arg(long, value_delimiter = ',', conflicts_with = "resume")]
    pub(crate) implementations: Vec<String>,
    /// The worker for another implementation: a program and its arguments, separated by blanks; instead of ours if it is called `openmls`
    #[arg(long = "worker", value_name = "NAME=COMMAND")]
    pub(crate) workers: Vec<String>,
    /// Only say what would be measured and how long it would take
    #[arg(long)]
    pub(crate) plan: bool,
}

#[derive(Debug, Args)]
pub(crate) struct BenchScenario {
    /// Files, or names of scenarios that come along
    pub(crate) scenarios: Vec<String>,
    /// Say which come along
    #[arg(long)]
    pub(crate) list: bool,
    /// By what they are played
    #[arg(
        long,
        value_enum,
        value_delimiter = ',',
        default_values_t = [ScenarioWay::Library, ScenarioWay::Lm, ScenarioWay::Mimi]
    )]
    pub(crate) by: Vec<ScenarioWay>,
    /// Instead of the file's
    #[arg(long)]
    pub(crate) seed: Option<u64>,
    /// Where run.json, the CSV files and report.html go; must not hold a run yet
    #[arg(long, value_name = "DIR", default_value = "nabe-bench-scenario")]
    pub(crate) out: PathBuf,
}

/// By what a scenario is played.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum ScenarioWay {
    /// OpenMLS's members and Nabe's hub group, without a wire
    Library,
    /// Two servers with Linearized Matrix between them
    Lm,
    /// Two providers with MIMI between them
    Mimi,
}

/// The implementations that are measured without a program of their own.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum BenchWorker {
    /// OpenMLS with RustCrypto, and Nabe's hub
    Openmls,
}

/// By which protocol a hub is measured.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum BenchProtocol {
    /// Linearized Matrix: transactions of signed events
    Lm,
    /// MIMI: encrypted messages, one a request, over mutual TLS
    Mimi,
}

#[derive(Debug, Args)]
pub(crate) struct BenchGroup {
    /// Devices in the room; an event has no room for many more
    #[arg(long, default_value_t = 150, value_parser = clap::value_parser!(u32).range(3..=180))]
    pub(crate) devices: u32,
    /// Changes of keys that are measured once every device has committed
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) commits: u32,
    /// Then add devices until a commit does not fit into an event, in both shapes of the tree
    #[arg(long)]
    pub(crate) to_the_limit: bool,
    /// Print one JSON document
    #[arg(long)]
    pub(crate) json: bool,
}

/// A user of this server, from what `--user` style options give.
pub(crate) fn local_user(localpart: &str, server: &ServerName) -> Result<UserId, nabe_types::InvalidId> {
    UserId::parse(&format!("@{localpart}:{server}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
