//! What people do with organizations. What they may is decided by the aggregate, inside the append; here is what
//! belongs around its commands: data keys, mails, and the organization that a session is in.

mod inviting;

use aggregates::organization::{
    FirstTeam, Foundation, Organization, OrganizationCommand, OrganizationError,
};
use aggregates::session::{Session, SessionCommand, SessionError};
use aggregates::{ClaimScope, UserId};
use projections::invitations;
use projections::members::{self, MemberRow};
use projections::organizations::OrganizationRow;

pub use self::inviting::NewInvitation;
use crate::accounts::Caller;
use crate::app::App;
use crate::custody::{ONLY, kind};
use crate::effects;
use crate::ids;
use crate::sessions::Live;
use crate::store::{Actor, Context, RunError, StoreError};

/// How often closing is tried again because somebody was invited meanwhile.
const CLOSING_ATTEMPTS: u32 = 5;

/// Why a command on an organization was not carried out.
pub type Failure = RunError<OrganizationError>;

/// Somebody who does something, in a request of theirs.
#[derive(Clone, Copy)]
pub struct Acting<'a> {
    /// The service.
    pub app: &'a App,
    /// Their session.
    pub live: &'a Live,
    /// The request.
    pub caller: &'a Caller,
}

/// What an organization is to show of itself.
pub struct Shown {
    /// Not empty.
    pub name: String,
    /// Not empty.
    pub slug: String,
    /// Address of a picture.
    pub logo: Option<String>,
    /// JSON text of the applications.
    pub metadata: Option<String>,
}

/// An organization that was made just now.
pub struct Made {
    /// As it is.
    pub organization: OrganizationRow,
    /// Its owner.
    pub owner: MemberRow,
    /// The team that it began with.
    pub team_id: Option<String>,
}

impl Acting<'_> {
    /// Who gives the commands.
    pub fn actor(&self) -> UserId {
        UserId::new(&self.live.user.id)
    }

    fn context(&self) -> Context {
        self.caller.context(self.live.actor())
    }

    /// The same for what stands in the person's own history. Sealed under their key, so it is refused once their account
    /// is closed.
    fn own_context(&self) -> Context {
        let person = &self.live.user.id;
        self.caller.context_about(self.live.actor(), person)
    }

    /// Carries out a command that changes nothing but the organization.
    ///
    /// # Errors
    /// If it is refused or cannot be written.
    pub async fn run(
        &self,
        organization_id: &str,
        command: OrganizationCommand,
    ) -> Result<(), Failure> {
        let store = &self.app.store;
        store
            .run::<Organization>(organization_id, command, self.context())
            .await?;
        Ok(())
    }

    /// Makes an organization; whoever makes it owns it. The credits service is told of a guild.
    ///
    /// # Errors
    /// `ClaimTaken` if another one has the slug; else when it cannot be written.
    pub async fn create(&self, shown: Shown, is_guild: bool) -> Result<Made, Failure> {
        let at = self.app.clock.now();
        let id = ids::organization();
        let team = self.app.config.teams.then(|| FirstTeam {
            team_id: ids::part_of_organization(),
            team_member_id: ids::part_of_organization(),
        });
        let team_id = team.as_ref().map(|team| team.team_id.clone());
        let owner = MemberRow {
            id: ids::part_of_organization(),
            organization_id: id.to_string(),
            user_id: self.live.user.id.clone(),
            role: aggregates::organization::permissions::OWNER.to_owned(),
            created_at: at,
        };
        let organization = OrganizationRow {
            id: id.to_string(),
            name: shown.name.clone(),
            slug: shown.slug.clone(),
            logo: shown.logo.clone(),
            metadata: shown.metadata.clone(),
            created_at: at,
        };
        let key = self.app.store.custody().new_data_key(id.as_str());
        let mut context = self
            .own_context()
            .on_new_stream()
            .with_new_data_key(id.as_str(), key);
        if is_guild {
            context = context.then(effects::guild_pool_init(id.as_str()));
        }
        let command = OrganizationCommand::Create(Foundation {
            id: id.clone(),
            owner: self.actor(),
            member_id: owner.id.clone(),
            name: shown.name,
            slug: shown.slug,
            logo: shown.logo,
            metadata: shown.metadata,
            team,
            at,
        });
        let store = &self.app.store;
        store
            .run::<Organization>(id.as_str(), command, context)
            .await?;
        Ok(Made {
            organization,
            owner,
            team_id,
        })
    }

    /// Closes an organization for good, and destroys its data keys.
    ///
    /// # Errors
    /// If it is refused or cannot be written.
    pub async fn delete(&self, organization_id: &str) -> Result<(), Failure> {
        let at = self.app.clock.now();
        close(
            self.app,
            organization_id,
            self.own_context(),
            |invitations| OrganizationCommand::Delete {
                actor: self.actor(),
                invitations,
                at,
            },
        )
        .await
    }

    /// Puts a session into an organization and one of its teams, or into none.
    ///
    /// # Errors
    /// `Unavailable` and the like when it cannot be written; a session that is over stays over.
    pub async fn go_to(
        &self,
        organization_id: Option<&str>,
        team_id: Option<&str>,
    ) -> Result<(), StoreError> {
        let command = SessionCommand::SetActive {
            organization_id: organization_id.map(str::to_owned),
            team_id: team_id.map(str::to_owned),
            at: self.app.clock.now(),
        };
        let session = &self.live.session;
        let context = self.context().in_session(&session.id);
        match self
            .app
            .store
            .run::<Session>(&session.id, command, context)
            .await
        {
            Ok(_)
            | Err(RunError::Refused(SessionError::NotLive | SessionError::AlreadyStarted)) => {
                Ok(())
            }
            Err(RunError::Store(error)) => Err(error),
        }
    }
}

/// Closes an organization: its data keys and those of its invitations are destroyed by the same append. An invitation
/// that was sent since they were counted would keep its key, so then the command is refused and tried again.
async fn close(
    app: &App,
    organization_id: &str,
    context: Context,
    command: impl Fn(usize) -> OrganizationCommand,
) -> Result<(), Failure> {
    let custody = app.store.custody();
    let mut attempt = 1;
    loop {
        let state: Organization = app.store.load(organization_id).await?;
        let owners = state.invitation_ids().iter();
        let owners = owners.map(|id| invitations::subject(organization_id, id));
        let owners: Vec<String> = owners.chain([organization_id.to_owned()]).collect();
        let deleting = owners.iter().fold(context.clone(), |context, owner| {
            context.with_secret(custody.delete(kind::DATA_KEY, owner, ONLY))
        });
        let command = command(state.invitation_ids().len());
        match app
            .store
            .run::<Organization>(organization_id, command, deleting)
            .await
        {
            Err(RunError::Refused(OrganizationError::Outdated)) if attempt < CLOSING_ATTEMPTS => {
                attempt += 1;
            }
            Err(RunError::Refused(OrganizationError::Outdated)) => {
                return Err(StoreError::Conflict.into());
            }
            Err(error) => return Err(error),
            Ok(_) => {
                owners.iter().for_each(|owner| custody.forget(owner));
                return Ok(());
            }
        }
    }
}

/// Ends the memberships of somebody whose account is closed, and destroys the invitations to addresses that they have
/// proven to be theirs. An organization that nobody is left in is closed.
///
/// # Errors
/// When something could not be written; what is left is done by the next call.
pub async fn forget_person(
    app: &App,
    user_id: &str,
    addresses: &[String],
) -> Result<(), StoreError> {
    for (organization_id, id) in invitations::to_emails(&app.pool, addresses).await? {
        erase_invitation(app, &organization_id, id).await?;
    }
    let user = UserId::new(user_id);
    for organization_id in members::organizations_of(&app.pool, user_id).await? {
        let at = app.clock.now();
        let context = Context::of(Actor::System);
        let command = OrganizationCommand::ForgetMember {
            user_id: user.clone(),
            at,
        };
        let forgotten = app
            .store
            .run::<Organization>(&organization_id, command, context.clone())
            .await;
        let done = match forgotten {
            Err(RunError::Refused(OrganizationError::LastMember)) => {
                close(app, &organization_id, context, |invitations| {
                    OrganizationCommand::Desert {
                        user_id: user.clone(),
                        invitations,
                        at,
                    }
                })
                .await
            }
            forgotten => forgotten.map(drop),
        };
        match done {
            Ok(()) => {}
            // Closed by somebody else meanwhile, or not empty any more: the next look decides again.
            Err(RunError::Refused(_)) => {}
            Err(RunError::Store(error)) => return Err(error),
        }
    }
    Ok(())
}

async fn erase_invitation(
    app: &App,
    organization_id: &str,
    invitation_id: String,
) -> Result<(), StoreError> {
    let subject = invitations::subject(organization_id, &invitation_id);
    let custody = app.store.custody();
    let context =
        Context::of(Actor::System).with_secret(custody.delete(kind::DATA_KEY, &subject, ONLY));
    let command = OrganizationCommand::EraseInvitation {
        invitation_id,
        at: app.clock.now(),
    };
    let store = &app.store;
    match store
        .run::<Organization>(organization_id, command, context)
        .await
    {
        // Closed meanwhile: the key went with the organization.
        Ok(_) | Err(RunError::Refused(_)) => {
            custody.forget(&subject);
            Ok(())
        }
        Err(RunError::Store(error)) => Err(error),
    }
}

/// Which organization has a slug.
///
/// # Errors
/// When the database does not answer.
pub async fn id_of_slug(app: &App, slug: &str) -> Result<Option<String>, StoreError> {
    Ok(app.store.claims().owner(ClaimScope::Slug, slug).await?)
}
