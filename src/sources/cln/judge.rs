//! Holds what was read of a node against each other: secret, wallet and `emergency.recover` must be of one node and of
//! one moment. Pure rules; no I/O.

use crate::facts::cln::{
    EmergencyChannel, EmergencyContents, NodeState, STATE_CLOSED, STATES_OPENING, WalletChannel, state_name,
};
use crate::report::{Finding, Level};

/// Channels of the wallet that `emergency.recover` must list and does not.
pub(super) fn missing_channels<'a>(wallet: &'a NodeState, emergency: &EmergencyContents) -> Vec<&'a WalletChannel> {
    let is_listed = |channel: &WalletChannel| {
        emergency.channels.iter().any(|listed| match &channel.channel_id {
            Some(id) => *id == listed.channel_id,
            None => i64::try_from(listed.dbid).is_ok_and(|dbid| dbid == channel.dbid),
        })
    };
    let must_be = |channel: &&WalletChannel| channel.state != STATE_CLOSED && !STATES_OPENING.contains(&channel.state);
    wallet.channels.iter().filter(must_be).filter(|channel| !is_listed(channel)).collect()
}

/// The finding about channels that are missing in `emergency.recover`.
pub(super) fn incomplete(subject: &str, missing: &[&WalletChannel]) -> Finding {
    let names: Vec<String> = missing
        .iter()
        .map(|channel| {
            let id = channel.channel_id.clone().unwrap_or_else(|| format!("row {}", channel.dbid));
            format!("{id} ({})", state_name(channel.state))
        })
        .collect();
    Finding::new(
        Level::Failed,
        "scb-incomplete",
        subject,
        format!("emergency.recover lacks {} of the wallet's channels: {}", names.len(), names.join(", ")),
    )
    .with_hint(
        "check lightningd's log for the plugin chanbackup; it leaves out channels whose peer was reached by no ordinary \
         address, and those come back only with the peer's help",
    )
}

/// The finding about a wallet that lacks what `emergency.recover` beside it knows: lightningd writes that file after
/// the wallet, so a wallet that knows less is an older one, or another one.
pub(super) fn behind(subject: &str, wallet: &NodeState, emergency: &EmergencyContents) -> Option<Finding> {
    let row_of = |listed: &EmergencyChannel| {
        wallet.channels.iter().find(|channel| match &channel.channel_id {
            Some(id) => *id == listed.channel_id,
            None => i64::try_from(listed.dbid).is_ok_and(|dbid| dbid == channel.dbid),
        })
    };
    let told = |listed: &EmergencyChannel| match row_of(listed) {
        None => Some(format!("{} is not in it", listed.channel_id)),
        Some(row) => match (row.revocations, listed.revocations) {
            (Some(ours), Some(known)) if ours < known => {
                Some(format!("{} is at {ours} revoked commitments and was at {known}", listed.channel_id))
            }
            _ => None,
        },
    };
    let told: Vec<String> = emergency.channels.iter().filter_map(told).collect();
    (!told.is_empty()).then(|| {
        let message = format!(
            "the wallet database is older than emergency.recover beside it, or another node's run: {}",
            told.join(", ")
        );
        Finding::new(Level::Failed, "wallet-behind", subject, message).with_hint(
            "find out which database lightningd uses (its wallet option; `ls -l /proc/PID/fd`) and set wallet in the policy \
             to it. Never start lightningd on this one: it can lose the channels' funds",
        )
    })
}

/// The finding about a secret that is not the wallet's.
pub(super) fn mismatch(subject: &str, secret: &str, wallet: &str) -> Finding {
    Finding::new(
        Level::Failed,
        "node-id-mismatch",
        subject,
        format!("hsm_secret is of node {secret}, but the wallet database is of node {wallet}"),
    )
    .with_hint(
        "lightningd will not start with this pair; find out which of the two files was replaced, and restore the right \
         one from an older snapshot before anything else. Nothing was overwritten by this run",
    )
}

/// Findings about the wallet by itself.
pub(super) fn wallet(subject: &str, state: &NodeState, network: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    if state.node_id.is_none() {
        findings.push(Finding::new(
            Level::Note,
            "wallet-without-node-id",
            subject,
            "the wallet database names no node id (it is older than v0.12 or was never started), so it cannot be held \
             against hsm_secret",
        ));
    }
    match (&state.network, &state.genesis_hash) {
        (Some(found), _) if found != network => findings.push(
            Finding::new(
                Level::Failed,
                "network-mismatch",
                subject,
                format!("the wallet database is of the chain {found}, but the policy says {network}"),
            )
            .with_hint("correct network, lightning_dir or wallet in the policy"),
        ),
        (None, Some(hash)) => findings.push(Finding::new(
            Level::Note,
            "network-unknown",
            subject,
            format!("the wallet database is of a chain this program does not know, whose first block is {hash}"),
        )),
        _ => {}
    }
    findings
}
