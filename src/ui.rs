//! The only printer: reports, failures and progress, as text for people or as one JSON document for programs.

pub mod progress;
pub mod text;

use crate::base::secret::Secret;
use crate::base::visible::visible;
use crate::cli::Global;
use crate::commands::generate::ManReport;
use crate::commands::keygen::KeygenReport;
use crate::commands::kit::KitReport;
use crate::commands::policy::PolicyReport;
use crate::engine::attest::AttestReport;
use crate::engine::backup::BackupReport;
use crate::engine::departure::UndoReport;
use crate::engine::extract::ExtractReport;
use crate::engine::init::{InitReport, RotateReport};
use crate::engine::list::{ListReport, ShowReport};
use crate::engine::rebuild::CatalogReport;
use crate::engine::restore::RestoreReport;
use crate::engine::verify::VerifyReport;
use crate::exit::{Exit, Failure};
use crate::report::Finding;
use schemars::JsonSchema;
use serde::Serialize;
use std::io::{self, BufRead, IsTerminal, Write};

/// What a verb ends in.
#[derive(Debug)]
pub enum Answer {
    /// `keygen` into a file.
    Keygen(KeygenReport),
    /// `init`.
    Init(InitReport),
    /// `rotate`.
    Rotate(RotateReport),
    /// `kit` into a file.
    Kit(KitReport),
    /// `man` into a folder.
    Man(ManReport),
    /// `attest`.
    Attest(AttestReport),
    /// `backup`.
    Backup(BackupReport),
    /// `undo-final`.
    UndoFinal(UndoReport),
    /// `list`, one report a node.
    List(Vec<ListReport>),
    /// `show`.
    Show(Box<ShowReport>),
    /// `verify`.
    Verify(VerifyReport),
    /// `extract`.
    Extract(ExtractReport),
    /// `restore`.
    Restore(Box<RestoreReport>),
    /// `policy check`.
    Policy(PolicyReport),
    /// `policy schema`: printed as it is.
    Schema(serde_json::Value),
    /// `catalog rebuild`.
    Catalog(CatalogReport),
    /// Text that was asked for.
    Text(String),
    /// A secret that was asked for on standard output.
    Raw(Secret),
    /// `demo`: it printed its story itself.
    Demo(crate::commands::demo::DemoReport),
}

/// The JSON document of every verb, format 1.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Document<'a> {
    /// Always 1.
    pub format: u64,
    /// The verb.
    pub verb: &'a str,
    /// The exit code.
    pub exit_code: u8,
    /// The exit code in one word.
    pub outcome: &'a str,
    /// What the verb found or did; its shape depends on the verb.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub report: Option<serde_json::Value>,
    /// Why the verb failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<&'a Failure>,
}

impl Answer {
    fn findings(&self) -> Vec<Finding> {
        match self {
            Self::Init(report) => report.findings.clone(),
            Self::Rotate(report) => report.findings.clone(),
            Self::Backup(report) => report.findings.clone(),
            Self::UndoFinal(report) => report.findings.clone(),
            Self::List(reports) => reports.iter().flat_map(|report| report.findings.clone()).collect(),
            Self::Verify(report) => report.findings.clone(),
            Self::Catalog(report) => report.findings.clone(),
            Self::Extract(report) => report.findings.clone(),
            Self::Restore(report) => report.findings.clone(),
            // What was found while a snapshot was taken is told, and is no failure of telling it.
            Self::Show(_) | Self::Keygen(_) | Self::Attest(_) | Self::Policy(_) => Vec::new(),
            Self::Schema(_) | Self::Text(_) | Self::Raw(_) | Self::Demo(_) => Vec::new(),
            Self::Kit(_) | Self::Man(_) => Vec::new(),
        }
    }

    /// How the command ended.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Demo(report) if !report.passed => Exit::Failed,
            Self::Restore(report) if report.is_refused() => Exit::Refused,
            _ => Exit::of(&self.findings()),
        }
    }

    fn report(&self) -> Result<serde_json::Value, serde_json::Error> {
        match self {
            Self::Keygen(report) => serde_json::to_value(report),
            Self::Init(report) => serde_json::to_value(report),
            Self::Rotate(report) => serde_json::to_value(report),
            Self::Kit(report) => serde_json::to_value(report),
            Self::Man(report) => serde_json::to_value(report),
            Self::Attest(report) => serde_json::to_value(report),
            Self::Backup(report) => serde_json::to_value(report),
            Self::UndoFinal(report) => serde_json::to_value(report),
            Self::List(reports) => serde_json::to_value(reports),
            Self::Show(report) => serde_json::to_value(report),
            Self::Verify(report) => serde_json::to_value(report),
            Self::Extract(report) => serde_json::to_value(report),
            Self::Restore(report) => serde_json::to_value(report),
            Self::Policy(report) => serde_json::to_value(report),
            Self::Catalog(report) => serde_json::to_value(report),
            Self::Demo(report) => serde_json::to_value(report),
            Self::Text(text) => serde_json::to_value(text),
            Self::Schema(value) => Ok(value.clone()),
            Self::Raw(_) => Ok(serde_json::Value::Null),
        }
    }
}

/// The JSON Schema of each verb's report, by verb; what docs/json.schema.json publishes.
pub fn schemas() -> serde_json::Value {
    let mut all = serde_json::Map::new();
    let mut add = |verb: &str, schema: schemars::Schema| {
        all.insert(verb.to_owned(), schema.to_value());
    };
    add("document", schemars::schema_for!(Document<'_>));
    add("keygen", schemars::schema_for!(KeygenReport));
    add("init", schemars::schema_for!(InitReport));
    add("kit", schemars::schema_for!(KitReport));
    add("man", schemars::schema_for!(ManReport));
    add("rotate", schemars::schema_for!(RotateReport));
    add("attest", schemars::schema_for!(AttestReport));
    add("backup", schemars::schema_for!(BackupReport));
    add("undo-final", schemars::schema_for!(UndoReport));
    add("list", schemars::schema_for!(Vec<ListReport>));
    add("show", schemars::schema_for!(ShowReport));
    add("verify", schemars::schema_for!(VerifyReport));
    add("extract", schemars::schema_for!(ExtractReport));
    add("restore", schemars::schema_for!(RestoreReport));
    add("policy check", schemars::schema_for!(PolicyReport));
    add("catalog rebuild", schemars::schema_for!(CatalogReport));
    add("demo", schemars::schema_for!(crate::commands::demo::DemoReport));
    serde_json::Value::Object(all)
}

/// What a person said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said {
    /// The word `yes`.
    Yes,
    /// Anything else.
    No,
}

/// Asks a person at the terminal; none when there is nobody to ask.
pub fn ask(question: &str) -> Option<Said> {
    let (stdin, mut err) = (io::stdin(), io::stderr());
    if !stdin.is_terminal() || !err.is_terminal() {
        return None;
    }
    write!(err, "{question} Type `yes` to go on: ").and_then(|()| err.flush()).ok()?;
    let mut line = String::new();
    stdin.lock().read_line(&mut line).ok()?;
    Some(if line.trim() == "yes" { Said::Yes } else { Said::No })
}

/// Prints how a verb ended; gives the exit.
pub fn finish(global: &Global, verb: &str, outcome: &Result<Answer, Failure>) -> io::Result<Exit> {
    let exit = match outcome {
        Ok(answer) => answer.exit(),
        Err(failure) => failure.exit,
    };
    let mut out = io::stdout().lock();
    let mut err = io::stderr().lock();
    match outcome {
        Ok(Answer::Raw(secret)) => out.write_all(secret.expose())?,
        Ok(Answer::Schema(schema)) => writeln!(out, "{schema:#}")?,
        Ok(Answer::Text(text)) if !global.json => write!(out, "{text}")?,
        _ if global.json => {
            let report = outcome.as_ref().ok().map(Answer::report).transpose().map_err(io::Error::other)?;
            let document = Document {
                format: 1,
                verb,
                exit_code: exit.code(),
                outcome: exit.outcome(),
                report,
                error: outcome.as_ref().err(),
            };
            serde_json::to_writer_pretty(&mut out, &document)?;
            writeln!(out)?;
        }
        Ok(answer) => {
            if !global.quiet {
                plainly(&mut out, |text| text::answer(text, answer))?;
            }
            out.flush()?;
            plainly(&mut err, |text| text::findings(text, &answer.findings()))?;
        }
        Err(failure) => plainly(&mut err, |text| text::failure(text, failure))?,
    }
    out.flush()?;
    Ok(exit)
}

/// Prints a text in which names and words of others stand: nothing in it is obeyed by a terminal.
fn plainly(out: &mut dyn Write, tell: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
    let mut text = Vec::new();
    tell(&mut text)?;
    out.write_all(visible(&String::from_utf8_lossy(&text)).as_bytes())
}
