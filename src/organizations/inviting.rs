//! Asking people into organizations, and what they answer.

use aggregates::organization::{Acceptance, Again, Invite, Organization, OrganizationCommand};
use aggregates::{EmailAddress, UserId};
use chrono::TimeDelta;
use projections::invitations::{self, InvitationRow};
use projections::members::{self, MemberRow};
use projections::organizations::OrganizationRow;

use super::{Acting, Failure};
use crate::effects;
use crate::http::limits;
use crate::ids;
use crate::mail::{Invited, Mail, MailKind};
use crate::store::{Context, StoreError};

/// An invitation stands for so long.
const INVITATION_FOR: TimeDelta = TimeDelta::hours(48);

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

impl Acting<'_> {
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
            inviter_id: self.live.user.id.clone(),
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
                    inviter: self.live.user.email.clone(),
                }),
                // Nothing is looked up about whose address it is: the mail speaks the language of whoever invites.
                ..Mail::to(
                    MailKind::Invitation,
                    &row.email,
                    "",
                    self.live.user.locale.as_deref(),
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
            user_id: self.live.user.id.clone(),
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
        // Refused once their account is closed: nobody comes in as they go.
        let context = self.own_context();
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
        EmailAddress::parse(&self.live.user.email)
            .map_err(|_| StoreError::Broken("an account has no address".to_owned()).into())
    }
}
