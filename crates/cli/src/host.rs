//! The one place that touches `chainsync_host`.

pub(crate) mod key {
    use chainsync_core::NodeId;
    use std::path::Path;
    pub(crate) struct Secret(Vec<u8>);
    pub(crate) fn generate() -> Secret {
        let mut bytes = vec![0; 32];
        let _ =
            rustix::fs::open("/dev/urandom", rustix::fs::OFlags::RDONLY, rustix::fs::Mode::empty())
                .map(|fd| rustix::io::read(fd, &mut bytes));
        Secret(bytes)
    }
    pub(crate) fn load(path: &Path) -> std::io::Result<Secret> {
        std::fs::read(path).map(Secret)
    }
    pub(crate) fn write_new(path: &Path, secret: &Secret) -> std::io::Result<()> {
        use std::io::Write;
        use std::os::unix::fs::OpenOptionsExt;
        std::fs::OpenOptions::new()
            .create_new(true)
            .write(true)
            .mode(0o600)
            .open(path)?
            .write_all(&secret.0)
    }
    pub(crate) fn public_id(secret: &Secret) -> NodeId {
        NodeId::of_public_key(&secret.0)
    }
}
