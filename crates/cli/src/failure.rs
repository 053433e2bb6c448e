//! How a command ends: the documented exit codes, and errors that name the next step.

use std::fmt::Display;
use std::process::ExitCode;

/// The exit codes of every command. A contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Exit {
    Good = 0,
    /// The question was understood, and the answer is no.
    No = 1,
    /// Usage or configuration.
    Usage = 2,
    /// The daemon cannot be reached.
    Unreachable = 3,
    /// A guard refused.
    Refused = 4,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit as u8)
    }
}

/// Why a command did not do what it was asked.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) exit: Exit,
    message: String,
    next: String,
    /// The message is a finished report with its own headings.
    rendered: bool,
}

impl Failure {
    /// `message` names the file, node or path; `next` what to do about it.
    pub(crate) fn new(exit: Exit, message: impl Display, next: impl Display) -> Self {
        let (message, next) = (message.to_string(), next.to_string());
        Self { exit, message, next, rendered: false }
    }

    /// A report that is printed as it is.
    pub(crate) fn rendered(exit: Exit, message: String) -> Self {
        Self { exit, message, next: String::new(), rendered: true }
    }

    /// What is wrong, without colours.
    pub(crate) fn message(&self) -> String {
        self.message.clone()
    }

    /// The whole of it, as it is printed.
    pub(crate) fn text(&self) -> String {
        match self.rendered {
            true => self.message.clone(),
            false => format!("{}; next: {}", self.message, self.next),
        }
    }

    /// Its errors with their places, on one line.
    pub(crate) fn summary(&self) -> String {
        if !self.rendered {
            return self.message.clone();
        }
        let mut errors: Vec<String> = Vec::new();
        let mut lines = self.message.lines();
        while let Some(line) = lines.next() {
            let Some(title) = line.strip_prefix("error: ") else { continue };
            let place = lines.next().and_then(|line| line.trim_start().strip_prefix("--> "));
            errors.push(match place {
                Some(place) => format!("{place}: {title}"),
                None => title.to_owned(),
            });
        }
        errors.join("; ")
    }

    /// Prints it on stderr, and says how to exit.
    pub(crate) fn report(&self) -> Exit {
        if self.rendered {
            eprintln!("{}", self.message);
        } else {
            eprintln!("error: {}\nnext:  {}", self.message, self.next);
        }
        self.exit
    }
}
