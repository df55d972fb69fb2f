//! What the benchmark measures: the tables, each in a file. A test runs all of it at the smallest size, so that it
//! stays alive; no figure is asserted anywhere.

pub(crate) mod child;
mod files;
mod measure;
mod shop;
mod stream;
pub(crate) mod wallet;

use std::io::Write;

/// The options for sizes, for the usage line.
#[allow(dead_code, reason = "the test that runs the tables has no command line")]
pub(crate) const SIZES: &str = "[--wallet MEBIBYTES] [--stream MEGABYTES] [--files NUMBER]";

/// What is measured, and how large it is.
pub(crate) struct Options {
    /// The shop's database in MB, as its dump is long.
    pub(crate) shop: u64,
    /// The wallet's file in MiB.
    pub(crate) wallet: u64,
    /// The stream in MB.
    pub(crate) stream: u64,
    /// The number of small files.
    pub(crate) files: u64,
    /// Which tables.
    pub(crate) tables: Vec<String>,
    /// The arguments with which this program runs one of the functions of [`child`].
    pub(crate) child: fn(&str) -> Vec<String>,
}

impl Options {
    /// All tables at their full size.
    pub(crate) fn new(child: fn(&str) -> Vec<String>) -> Self {
        let tables = ["shop", "wallet", "files", "stream"].map(str::to_owned).to_vec();
        Self { shop: 200, wallet: 1024, stream: 10_000, files: 200_000, tables, child }
    }

    /// Takes a command line's words. The error is a sentence.
    #[allow(dead_code, reason = "the test that runs the tables has no command line")]
    pub(crate) fn read(&mut self, mut words: impl Iterator<Item = String>) -> Result<(), String> {
        let number = |word: &str| word.parse().map_err(|_| format!("{word:?} is no number and no option"));
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or_else(|| format!("{word} needs a value"));
            match word.as_str() {
                "--wallet" => self.wallet = number(&value()?)?,
                "--files" => self.files = number(&value()?)?,
                "--stream" => self.stream = number(&value()?)?,
                "--only" => {
                    let wanted: Vec<String> = value()?.split(',').map(str::to_owned).collect();
                    if let Some(strange) = wanted.iter().find(|name| !self.tables.contains(name)) {
                        return Err(format!("there is no table {strange:?}"));
                    }
                    self.tables = wanted;
                }
                _ => self.shop = number(&word)?,
            }
        }
        Ok(())
    }

    fn has(&self, table: &str) -> bool {
        self.tables.iter().any(|wanted| wanted == table)
    }
}

/// Measures and prints what is asked for.
pub(crate) fn run(options: &Options, out: &mut dyn Write) {
    if options.has("shop") {
        shop::table(options, out);
    }
    if options.has("wallet") {
        wallet::table(options, out);
    }
    if options.has("files") {
        files::table(options, out);
    }
    if options.has("stream") {
        stream::table(options, out);
    }
}
