//! `nabe user`: accounts and tokens for the client API, straight in the database. While the server runs, users are deleted by
//! `DELETE /_nabe/v1/users/{user}` with the provider's credential.

use anyhow::Context as _;
use nabe_service::ServiceError;
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

/// Deletes a user; one who was deleted before stays so.
pub(crate) async fn delete(config: &Config, localpart: &str) -> anyhow::Result<()> {
    let user = local_user(localpart, &config.server_name).context(InputAtFault)?;
    let service = server::service(config).await?;
    let deleted = service.delete_user_of(&user, config.mimi.domain.as_ref()).await;
    service.shutdown().await;
    match deleted {
        Ok(()) => note!("{user} is deleted; nobody gets the name again"),
        Err(error @ ServiceError::NotFound(_)) => {
            return Err(anyhow::Error::new(error)
                .context(format!("deleting {user}"))
                .context(InputAtFault));
        }
        Err(error) => return Err(anyhow::Error::new(error).context(format!("deleting {user}"))),
    }
    Ok(())
}
