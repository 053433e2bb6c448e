//! Syncthing in a mesh, with what "Tuning for High Performance" of its documentation says, but for
//! `disableFsync`, which it advises against. Watching with a delay of one second, the least there
//! is; discovery, relays and NAT are off, every device has the addresses of the others.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use super::{System, package};
use crate::hosts::{NAMES, World};
use chainsync_hosts::shell::output_of;

const GENERATE_TIMEOUT: Duration = Duration::from_secs(60);

/// Certificates take seconds to make and are the same in all runs.
#[derive(Default)]
pub struct Syncthing {
    homes: Vec<Home>,
}

struct Home {
    certificate: Vec<u8>,
    key: Vec<u8>,
    id: String,
    version: String,
}

impl System for Syncthing {
    fn key(&self) -> &'static str {
        "syncthing"
    }

    fn title(&self) -> &'static str {
        "Syncthing, mesh"
    }

    fn versions(&self) -> Result<Vec<String>> {
        Ok(vec![package("syncthing")?])
    }

    fn configure(&mut self, world: &World) -> Result<String> {
        if self.homes.is_empty() {
            self.homes = world.hosts.iter().map(|_| Home::generate()).collect::<Result<_>>()?;
        }
        let mut shown = String::new();
        for (host, home) in world.hosts.iter().zip(&self.homes).rev() {
            let directory = host.disk.join("syncthing");
            std::fs::create_dir_all(&directory)?;
            std::fs::write(directory.join("cert.pem"), &home.certificate)?;
            std::fs::write(directory.join("key.pem"), &home.key)?;
            let text = self.configuration(world, &host.address, &home.version);
            std::fs::write(directory.join("config.xml"), &text)?;
            std::fs::create_dir_all(host.disk.join("share/.stfolder"))?;
            shown = text;
        }
        Ok(shown)
    }

    /// Two that call each other at the same moment may both hang up, and try again after 20 s.
    fn stagger(&self) -> Duration {
        Duration::from_millis(500)
    }

    fn start(&self, world: &World, host: usize) -> Result<()> {
        let home = world.everywhere().join("syncthing");
        let mut command = Command::new("syncthing");
        command.args(["serve", "--no-browser", "--no-restart", "--no-upgrade", "--logflags=3"]);
        command.arg("--home").arg(&home);
        command.env("HOME", &home);
        world.spawn(host, command)
    }
}

impl Home {
    fn generate() -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let home = format!("--home={}", directory.path().display());
        let mut generate = Command::new("syncthing");
        generate.args(["generate", &home, "--no-default-folder"]).env("HOME", directory.path());
        output_of(generate, GENERATE_TIMEOUT)?;
        let mut ask = Command::new("syncthing");
        ask.args([&home, "--device-id"]).env("HOME", directory.path());
        let id = output_of(ask, GENERATE_TIMEOUT)?.trim().to_owned();
        let configuration = std::fs::read_to_string(directory.path().join("config.xml"))?;
        let version = configuration.split("<configuration version=\"").nth(1);
        let version = version.and_then(|rest| rest.split('"').next());
        Ok(Self {
            certificate: std::fs::read(directory.path().join("cert.pem"))?,
            key: std::fs::read(directory.path().join("key.pem"))?,
            id,
            version: version.context("a configuration without a version")?.to_owned(),
        })
    }
}

impl Syncthing {
    fn configuration(&self, world: &World, address: &str, version: &str) -> String {
        let mut members = String::new();
        let mut devices = String::new();
        for (index, home) in self.homes.iter().enumerate() {
            members += &format!("    <device id=\"{}\"/>\n", home.id);
            devices += &format!(
                "  <device id=\"{}\" name=\"{}\" compression=\"never\">\n    <address>tcp://{}:22000</address>\n  </device>\n",
                home.id, NAMES[index], world.hosts[index].address
            );
        }
        CONFIGURATION
            .replace("@VERSION@", version)
            .replace("@SHARE@", &world.share_everywhere().display().to_string())
            .replace("@MEMBERS@", &members)
            .replace("@DEVICES@", &devices)
            .replace("@ADDRESS@", address)
    }
}

/// What is not named has its default.
const CONFIGURATION: &str = r#"<configuration version="@VERSION@">
  <folder id="share" path="@SHARE@" type="sendreceive" rescanIntervalS="3600" fsWatcherEnabled="true" fsWatcherDelayS="1">
    <filesystemType>basic</filesystemType>
@MEMBERS@    <minDiskFree unit="">0</minDiskFree>
    <scanProgressIntervalS>-1</scanProgressIntervalS>
    <weakHashThresholdPct>101</weakHashThresholdPct>
    <maxConcurrentWrites>16</maxConcurrentWrites>
    <copyRangeMethod>copy_file_range</copyRangeMethod>
    <caseSensitiveFS>true</caseSensitiveFS>
  </folder>
@DEVICES@  <gui enabled="false"/>
  <options>
    <listenAddress>tcp://@ADDRESS@:22000</listenAddress>
    <globalAnnounceEnabled>false</globalAnnounceEnabled>
    <localAnnounceEnabled>false</localAnnounceEnabled>
    <relaysEnabled>false</relaysEnabled>
    <natEnabled>false</natEnabled>
    <startBrowser>false</startBrowser>
    <reconnectionIntervalS>1</reconnectionIntervalS>
    <crashReportingEnabled>false</crashReportingEnabled>
    <urAccepted>-1</urAccepted>
    <autoUpgradeIntervalH>0</autoUpgradeIntervalH>
    <progressUpdateIntervalS>-1</progressUpdateIntervalS>
    <setLowPriority>false</setLowPriority>
    <databaseTuning>large</databaseTuning>
    <maxConcurrentIncomingRequestKiB>1048576</maxConcurrentIncomingRequestKiB>
  </options>
</configuration>
"#;
