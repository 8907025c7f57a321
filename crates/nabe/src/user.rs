//! `nabe user add`: an account and a token for the client API, straight into the database.

use anyhow::Context as _;
use nabe_types::DeviceId;

use crate::{
    InputAtFault,
    cli::local_user,
    config::Config,
    output::{note, say},
    server,
};

/// Prints the new token on standard output and nothing else, so that scripts can take it.
pub(crate) async fn add(config: &Config, localpart: &str, device: Option<&str>) -> anyhow::Result<()> {
    let user = local_user(localpart, &config.server_name).context(InputAtFault)?;
    let device = device.map(DeviceId::parse).transpose().context(InputAtFault)?;
    let service = server::service(config).await?;
    let token = async {
        if device.is_some() {
            service.act_as(&user).await?;
            service.register_device(&user, device.clone()).await?;
        }
        service.add_token(&user, device).await
    }
    .await;
    service.shutdown().await;
    let token = token.with_context(|| format!("adding {user}"))?;
    note!("{user} can use the client API with this token (shown only now):");
    say!("{}", token.secret());
    Ok(())
}
