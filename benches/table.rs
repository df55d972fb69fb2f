//! Measures one run on one machine and prints tables: backups of a shop's database beside other tools, copies of a
//! live wallet, and a long stream.
//!
//! `cargo bench --bench table -- 1000` takes a BTCPay-shaped database of about 1,000 MB; `--only shop`, `wallet` or
//! `stream` (or some of them, with commas) leaves the others out. Times are whole processes' as the kernel counts
//! them; a busy machine shows in all rows, so read the ratios.

#![expect(clippy::unwrap_used, reason = "a measurement that cannot go on stops")]

mod rows;

use rows::{Options, child};

fn main() {
    let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench").peekable();
    match arguments.peek().map(String::as_str) {
        // These two are what it starts as processes of their own.
        Some("child-writer") => return child::write(),
        Some("child-stream") => return child::stream(),
        _ => {}
    }
    let mut options = Options::new(|kind| vec![format!("child-{kind}")]);
    let outcome = options.read(arguments);
    #[expect(clippy::print_stderr, reason = "what is wrong with the command line")]
    if let Err(wrong) = outcome {
        eprintln!(
            "{wrong}\nusage: cargo bench --bench table -- [MEGABYTES] [--only shop,wallet,files,stream] {}",
            rows::SIZES
        );
        return;
    }
    rows::run(&options, &mut std::io::stdout());
}
