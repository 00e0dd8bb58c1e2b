//! What people do with organizations. What they may is decided by the aggregate, inside the append; here is what
//! belongs around its commands: data keys, mails, and the organization that a session is in.

use aggregates::organization::{
    Acceptance, Again, FirstTeam, Foundation, Invite, Organization, OrganizationCommand,
    OrganizationError,
};
use aggregates::session::{Session, SessionCommand, SessionError};
use aggregates::{ClaimScope, EmailAddress, UserId};
use chrono::TimeDelta;
use projections::invitations::{self, InvitationRow};
use projections::members::{self, MemberRow};
use projections::organizations::OrganizationRow;
use projections::sessions::SessionRow;
use projections::users::UserRow;

use crate::accounts::Caller;
use crate::app::App;
use crate::custody::{ONLY, kind};
use crate::effects;
use crate::http::limits;
use crate::ids;
use crate::mail::{Invited, Mail, MailKind};
use crate::store::{Actor, Context, RunError, StoreError};

/// An invitation stands for so long.
const INVITATION_FOR: TimeDelta = TimeDelta::hours(48);
/// How often closing is tried again because somebody was invited meanwhile.
const CLOSING_ATTEMPTS: u32 = 5;

/// Why a command on an organization was not carried out.
pub type Failure = RunError<OrganizationError>;

/// Somebody who does something, in a request of theirs.
#[derive(Clone, Copy)]
pub struct Acting<'a> {
    /// The service.
    pub app: &'a App,
    /// Who.
    pub user: &'a UserRow,
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
        UserId::new(&self.user.id)
    }

    fn context(&self) -> Context {
        self.caller.context(Actor::User(self.user.id.clone()))
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

    /// Makes an organization; whoever makes it owns it.
    ///
    /// # Errors
    /// `ClaimTaken` if another one has the slug; else when it cannot be written.
    pub async fn create(&self, shown: Shown) -> Result<Made, Failure> {
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
            user_id: self.user.id.clone(),
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
        let context = self
            .context()
            .on_new_stream()
            .with_new_data_key(id.as_str(), key);
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
        close(self.app, organization_id, self.context(), |invitations| {
            OrganizationCommand::Delete {
                actor: self.actor(),
                invitations,
                at,
            }
        })
        .await
    }

    /// Asks somebody in, and mails them.
    ///
    /// # Errors
    /// If it is refused or cannot be written.
    pub async fn invite(
        &self,
        organization: &OrganizationRow,
        invitation: NewInvitation,
    ) -> Result<InvitationRow, Failure> {
        let NewInvitation {
            email,
            role,
            team_ids,
            resend,
        } = invitation;
        let (app, at) = (self.app, self.app.clock.now());
        let expires_at = at + INVITATION_FOR;
        if resend && let Some(standing) = self.standing(organization, &email).await? {
            return self.renew(organization, standing).await;
        }
        // Everybody is read, so the answer takes the same time whether the address has an account or not (S-22).
        let people = members::people(&app.pool, &organization.id).await;
        let people = people.map_err(StoreError::from)?;
        let invitee = people.iter().find(|person| person.email == email.as_str());
        let id = ids::part_of_organization();
        let subject = invitations::subject(&organization.id, &id);
        let row = InvitationRow {
            id: id.clone(),
            organization_id: organization.id.clone(),
            email: email.as_str().to_owned(),
            role: role.clone(),
            team_ids: (!team_ids.is_empty()).then(|| team_ids.join(",")),
            status: "pending".to_owned(),
            inviter_id: self.user.id.clone(),
            expires_at,
            created_at: at,
        };
        let command = OrganizationCommand::Invite(Invite {
            actor: self.actor(),
            invitation_id: id,
            subject: subject.clone(),
            email,
            invitee: invitee.map(|person| UserId::new(&person.member.user_id)),
            role,
            team_ids,
            again: if app.config.cancel_on_reinvite {
                Again::Replace
            } else {
                Again::Refuse
            },
            expires_at,
            at,
        });
        let key = app.store.custody().new_data_key(&subject);
        let context = self.context().with_new_data_key(&subject, key);
        self.send(organization, &row, command, context).await?;
        Ok(row)
    }

    async fn standing(
        &self,
        organization: &OrganizationRow,
        email: &EmailAddress,
    ) -> Result<Option<InvitationRow>, StoreError> {
        let now = self.app.clock.now();
        let all = invitations::of_email(&self.app.pool, email.as_str(), now).await?;
        let mut rows = all.into_iter().map(|addressed| addressed.invitation);
        Ok(rows.find(|row| row.organization_id == organization.id))
    }

    async fn renew(
        &self,
        organization: &OrganizationRow,
        row: InvitationRow,
    ) -> Result<InvitationRow, Failure> {
        let at = self.app.clock.now();
        let expires_at = at + INVITATION_FOR;
        let command = OrganizationCommand::RenewInvitation {
            actor: self.actor(),
            invitation_id: row.id.clone(),
            expires_at,
            at,
        };
        self.send(organization, &row, command, self.context())
            .await?;
        Ok(InvitationRow { expires_at, ..row })
    }

    /// Carries out a command that mails an invitation, unless its address had too many mails lately (S-21).
    async fn send(
        &self,
        organization: &OrganizationRow,
        row: &InvitationRow,
        command: OrganizationCommand,
        mut context: Context,
    ) -> Result<(), Failure> {
        let app = self.app;
        if limits::INVITATION_MAIL.allows(app, &row.email).await? {
            let mail = Mail {
                url: Some(format!(
                    "{}/accept-invitation?id={}",
                    app.config.base_url, row.id
                )),
                invited: Some(Invited {
                    organization: organization.name.clone(),
                    inviter: self.user.email.clone(),
                }),
                // Nothing is looked up about whose address it is: the mail speaks the language of whoever invites.
                ..Mail::to(
                    MailKind::Invitation,
                    &row.email,
                    "",
                    self.user.locale.as_deref(),
                )
            };
            let subject = invitations::subject(&organization.id, &row.id);
            context = context.then(effects::mail(&subject, &mail));
        }
        app.store
            .run::<Organization>(&organization.id, command, context)
            .await?;
        Ok(())
    }

    /// Accepts an invitation for whoever acts.
    ///
    /// # Errors
    /// If it is refused or cannot be written.
    pub async fn accept(&self, invitation: &InvitationRow) -> Result<MemberRow, Failure> {
        let at = self.app.clock.now();
        let member = MemberRow {
            id: ids::part_of_organization(),
            organization_id: invitation.organization_id.clone(),
            user_id: self.user.id.clone(),
            role: invitation.role.clone(),
            created_at: at,
        };
        let command = OrganizationCommand::AcceptInvitation(Acceptance {
            actor: self.actor(),
            email: self.email()?,
            invitation_id: invitation.id.clone(),
            member_id: member.id.clone(),
            team_member_ids: invitation
                .teams()
                .map(|_| ids::part_of_organization())
                .collect(),
            at,
        });
        // Sealed under the person's key, so it is refused once their account is closed: nobody comes in as they go.
        let context = self
            .caller
            .context_about(Actor::User(self.user.id.clone()), &self.user.id);
        let store = &self.app.store;
        store
            .run::<Organization>(&invitation.organization_id, command, context)
            .await?;
        Ok(member)
    }

    /// Rejects an invitation for whoever acts.
    ///
    /// # Errors
    /// If it is refused or cannot be written.
    pub async fn reject(&self, invitation: &InvitationRow) -> Result<(), Failure> {
        let command = OrganizationCommand::RejectInvitation {
            email: self.email()?,
            invitation_id: invitation.id.clone(),
            at: self.app.clock.now(),
        };
        self.run(&invitation.organization_id, command).await
    }

    /// The address of whoever acts, as invitations know it.
    fn email(&self) -> Result<EmailAddress, Failure> {
        EmailAddress::parse(&self.user.email)
            .map_err(|_| StoreError::Broken("an account has no address".to_owned()).into())
    }

    /// Puts a session into an organization and one of its teams, or into none.
    ///
    /// # Errors
    /// `Unavailable` and the like when it cannot be written; a session that is over stays over.
    pub async fn go_to(
        &self,
        session: &SessionRow,
        organization_id: Option<&str>,
        team_id: Option<&str>,
    ) -> Result<(), StoreError> {
        let command = SessionCommand::SetActive {
            organization_id: organization_id.map(str::to_owned),
            team_id: team_id.map(str::to_owned),
            at: self.app.clock.now(),
        };
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

/// Somebody to be asked in.
pub struct NewInvitation {
    /// Whom.
    pub email: EmailAddress,
    /// Roles, joined by commas.
    pub role: String,
    /// Teams that they join as well.
    pub team_ids: Vec<String>,
    /// Whether an invitation that stands is sent once more.
    pub resend: bool,
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

/// Ends the memberships of somebody whose account is closed. An organization that nobody is left in is closed.
///
/// # Errors
/// When something could not be written; what is left is done by the next call.
pub async fn forget_person(app: &App, user_id: &str) -> Result<(), StoreError> {
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

/// Which organization has a slug.
///
/// # Errors
/// When the database does not answer.
pub async fn id_of_slug(app: &App, slug: &str) -> Result<Option<String>, StoreError> {
    Ok(app.store.claims().owner(ClaimScope::Slug, slug).await?)
}
