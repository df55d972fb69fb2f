//! Databases: roles first; each dump into a fresh database beside its place, proved row for row, and only then swapped
//! in by a rename.

use super::Applier;
use crate::base::ids::{ArtifactName, SnapshotId};
use crate::engine::Error;
use crate::engine::restore::journal::{Event as Line, Journal, Kept};
use crate::engine::told;
use crate::facts::Facts;
use crate::facts::postgres::DatabaseFacts;
use crate::plan::{Burn, ServerUrl};
use crate::report::{Finding, Level};
use crate::sources::postgres::Server;
use crate::sources::postgres::restore::{self, Landing, Stand, btcpay};

impl<'a> Applier<'a> {
    pub(super) fn restore_roles(&mut self, name: &ArtifactName, server: &ServerUrl) -> Result<(), Error> {
        let (opener, artifact) = self.artifact(name)?;
        let script = opener.to_memory(artifact)?;
        let roles = restore::restore_roles(&self.server(server)?, script.expose())?;
        let subject = name.as_str();
        for left_out in roles.left_out {
            let message = format!("not run, because it is no role or grant: {left_out}");
            self.gathered.findings.push(Finding::new(Level::Note, "statement-left-out", subject, message));
        }
        for statement in roles.lacking {
            let message = format!("only a superuser may give this back: {statement}");
            let finding = Finding::new(Level::Degraded, "role-attribute", subject, message);
            self.gathered.findings.push(finding.with_hint(format!("as a superuser, run: {statement};")));
        }
        if !roles.kept.is_empty() {
            let message = format!("there already, and left as they are: {}", roles.kept.join(", "));
            self.gathered.findings.push(Finding::new(Level::Note, "roles-kept", subject, message));
        }
        Ok(())
    }

    pub(super) fn restore_database(
        &mut self,
        name: &ArtifactName,
        url: &ServerUrl,
        database: &str,
        owner: &str,
    ) -> Result<(), Error> {
        let server = self.server(url)?;
        let (opener, artifact) = self.artifact(name)?;
        let facts = self.database_facts(name)?;
        let landing = self.landing(&server, database, owner)?;
        let stand = landing.stand()?;
        if stand == Stand::Swapped {
            return Ok(());
        }
        if landing.is_left_over()? {
            landing.discard()?;
        }
        let mut lacking = Vec::new();
        let made = landing.make(facts)?;
        if landing.stand()? != Stand::Filled {
            let replayed = opener.through_pipe(artifact, |dump| Ok(landing.fill(facts, dump)?))?;
            lacking = told::replayed(name.as_str(), &replayed);
        }
        let proved = match landing.proved_before()? {
            Some(proved) => proved,
            None => landing.prove(facts)?,
        };
        self.gathered.findings.extend(lacking);
        let notes = made.notes.iter().chain(&proved.proof.not_compared);
        let note = |note: &String| Finding::new(Level::Note, "not-compared", name.as_str(), note.clone());
        self.gathered.findings.extend(notes.map(note).collect::<Vec<_>>());
        self.gathered.findings.extend(told::unsettled(name.as_str(), &proved.proof.unsettled));
        self.gathered.proved.insert((url.clone(), database.to_owned()), proved);
        Ok(())
    }

    /// Swaps a proved database in; proves it again where an earlier run had.
    pub(super) fn swap_database(&mut self, url: &ServerUrl, database: &str) -> Result<(), Error> {
        let server = self.server(url)?;
        let Some((name, facts)) = self.dump_of(url, database) else {
            return Err(Error::Usage(format!("the snapshot has no dump of the database {database}")));
        };
        let proved = self.gathered.proved.remove(&(url.clone(), database.to_owned()));
        let landing = self.landing(&server, database, &facts.owner)?;
        if landing.stand()? == Stand::Swapped {
            return Ok(());
        }
        let proved = match (proved, landing.proved_before()?) {
            (Some(proved), _) | (None, Some(proved)) => proved,
            (None, None) => landing.prove(facts)?,
        };
        if let Some(replaced) = landing.swap(proved)?.replaced {
            self.gathered.keep(Kept::Database { server: url.0.clone(), name: replaced.clone() });
            let message = format!("the database that was in its place is kept as {replaced}");
            self.gathered.findings.push(Finding::new(Level::Note, "database-kept", name.as_str(), message));
        }
        Ok(())
    }

    /// Whether a database that was restored is in its place already.
    pub(super) fn is_in_service(&self, url: &ServerUrl, database: &str) -> Result<bool, Error> {
        let server = self.server(url)?;
        Ok(self.landing(&server, database, "")?.stand()? == Stand::Swapped)
    }

    /// Leaves a restored database beside the one in service, because a person did not say yes.
    pub(super) fn leave_beside(&mut self, url: &ServerUrl, database: &str) -> Result<(), Error> {
        let server = self.server(url)?;
        let fresh = self.landing(&server, database, "")?.fresh_name();
        let message = format!("not put into service, as you did not say yes; restored and proved it stays as {fresh}");
        let hint = "drop it by hand when nothing of it is missed";
        self.gathered.findings.push(Finding::new(Level::Note, "database-beside", database, message).with_hint(hint));
        Ok(())
    }

    pub(super) fn burn(
        &mut self,
        url: &ServerUrl,
        database: &str,
        what: Burn,
        journal: &mut Journal,
    ) -> Result<(), Error> {
        let server = self.restored(url, database)?;
        if what == Burn::ApiKeys {
            let labels: Vec<_> = btcpay::api_keys(&server)?.into_iter().map(|key| format!("{:?}", key.label)).collect();
            if !labels.is_empty() {
                self.gathered.burnt_keys.extend(labels.iter().map(|label| (label.clone(), database.to_owned())));
                journal.add(self.context.now(), Line::Burning { database: database.to_owned(), labels })?;
            }
        }
        // It was proved before; what is burnt is meant to differ.
        let burnt = btcpay::burn(&server, &[what])?;
        let message = format!(
            "burnt in {database}: {} API keys, {} webhooks, {} payout processors",
            burnt.api_keys, burnt.webhooks, burnt.payout_processors
        );
        self.gathered.findings.push(Finding::new(Level::Note, "burnt", database, message));
        Ok(())
    }

    /// The restored database, wherever it stands now: beside its place or in it.
    pub(in crate::engine::restore) fn restored(&self, url: &ServerUrl, database: &str) -> Result<Server, Error> {
        let server = self.server(url)?;
        let owner = self.dump_of(url, database).map(|(_, facts)| facts.owner.as_str()).unwrap_or_default();
        let landing = self.landing(&server, database, owner)?;
        let name = match landing.stand()? {
            Stand::Made | Stand::Partial | Stand::Filled => landing.fresh_name(),
            Stand::Swapped | Stand::NotBegun => database.to_owned(),
        };
        Ok(server.with_database(&name))
    }

    pub(in crate::engine::restore) fn landing<'l>(
        &'l self,
        server: &'l Server,
        database: &'l str,
        owner: &'l str,
    ) -> Result<Landing<'l>, Error> {
        let snapshot: &SnapshotId =
            self.ground.snapshot().ok_or_else(|| Error::Usage("no snapshot was chosen".into()))?;
        let interrupt = self.context.interrupt;
        Ok(Landing { server, database, owner, snapshot, run: &self.run, interrupt })
    }

    fn database_facts(&self, name: &ArtifactName) -> Result<&'a DatabaseFacts, Error> {
        let facts = self.ground.chosen.and_then(|(_, notes)| notes.facts(name));
        match facts {
            Some(Facts::PostgresDump(facts)) => Ok(facts),
            _ => Err(Error::Damaged {
                thing: name.to_string(),
                reason: "the notes do not say what it holds, so it cannot be proved".into(),
            }),
        }
    }

    /// The dump of a database on a server.
    pub(in crate::engine::restore) fn dump_of(
        &self,
        url: &ServerUrl,
        database: &str,
    ) -> Option<(&'a ArtifactName, &'a DatabaseFacts)> {
        let (manifest, notes) = self.ground.chosen?;
        manifest.artifacts.iter().find_map(|artifact| match notes.facts(&artifact.name) {
            Some(Facts::PostgresDump(facts))
                if facts.name == database && self.ground.server_of(&artifact.name).as_ref() == Some(url) =>
            {
                Some((&artifact.name, &**facts))
            }
            _ => None,
        })
    }
}
