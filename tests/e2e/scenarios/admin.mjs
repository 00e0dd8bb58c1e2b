// What admins do to others by the official client, and what nobody else does.
import assert from 'node:assert/strict';
import { it } from 'node:test';
import { adminClient } from 'better-auth/client/plugins';
import { Browser } from '../browser.mjs';
import { assertRefused, bearerClient, clientIn, good, signIn } from '../clients.mjs';
import { assertNoLogin, isLive, login, newPerson, registerAndVerify } from '../people.mjs';
import { assertErased } from '../secrecy.mjs';

export function admin(world) {
  /** Somebody whom the operator has made an admin, at work in a browser. */
  const anAdmin = async () => {
    const person = await registerAndVerify(world);
    await world.service.command('user', 'set-role', person.email, 'admin');
    return { ...person, ...await signIn(world, person, adminClient()) };
  };

  /** Tries to sign in with the client. */
  const trySignIn = ({ email, password }) => (
    clientIn(new Browser(), world.service.baseUrl).signIn.email({ email, password })
  );

  it('admins find people and read their accounts, others do not', async () => {
    const { auth, ...own } = await anAdmin();
    const [person, other] = [await registerAndVerify(world), await registerAndVerify(world)];
    const found = good(await auth.admin.listUsers({ query: { searchValue: person.email, limit: 10 } }));
    assert.deepEqual([found.total, found.limit, found.users.map((user) => user.id)], [1, 10, [person.id]]);
    assert.ok(found.users[0].createdAt instanceof Date);
    const byName = { searchField: 'name', searchOperator: 'starts_with', searchValue: other.name };
    assert.deepEqual(good(await auth.admin.listUsers({ query: byName })).users.map((user) => user.id), [other.id]);
    const admins = good(await auth.admin.listUsers({ query: { filterField: 'role', filterValue: 'admin' } }));
    assert.ok(admins.users.some((user) => user.id === own.id));
    assert.ok(admins.users.every((user) => user.role === 'admin'));
    assert.equal(good(await auth.admin.getUser({ query: { id: person.id } })).email, person.email);

    const { auth: noAdmin } = await signIn(world, person, adminClient());
    assertRefused(await noAdmin.admin.listUsers({ query: {} }), 403, 'YOU_ARE_NOT_ALLOWED_TO_LIST_USERS');
    assertRefused(await noAdmin.admin.banUser({ userId: other.id }), 403, 'YOU_ARE_NOT_ALLOWED_TO_BAN_USERS');
    const permissions = { user: ['ban'], session: ['revoke'] };
    assert.equal(good(await auth.admin.hasPermission({ permissions })).success, true);
    assert.equal(good(await noAdmin.admin.hasPermission({ permissions })).success, false);
    assert.equal(auth.admin.checkRolePermission({ role: 'user', permissions }), false);
  });

  it('an account that an admin makes is there at once, and a role comes and goes', async () => {
    const { auth, ...own } = await anAdmin();
    const made = newPerson();
    const { user } = good(await auth.admin.createUser({ ...made, role: 'user', data: { emailVerified: true } }));
    assert.deepEqual([user.email, user.role, user.emailVerified], [made.email, 'user', true]);
    const again = await auth.admin.createUser({ ...newPerson(), email: made.email });
    assertRefused(again, 400, 'USER_ALREADY_EXISTS_USE_ANOTHER_EMAIL');
    const { auth: theirs } = await signIn(world, made, adminClient());

    const permissions = { user: ['list'] };
    for (const [role, allowed] of [['admin', true], ['user', false]]) {
      const changed = good(await auth.admin.setRole({ userId: user.id, role }));
      assert.equal(changed.user.role, role);
      assert.equal(good(await theirs.admin.hasPermission({ permissions })).success, allowed);
    }
    // S-66: nobody acts as an admin.
    assertRefused(await auth.admin.impersonateUser({ userId: own.id }), 403, 'YOU_CANNOT_IMPERSONATE_ADMINS');
  });

  it('a ban ends all sessions and keeps its person out until it is lifted', async () => {
    const { auth, ...own } = await anAdmin();
    const person = await registerAndVerify(world);
    const { token } = await signIn(world, person);
    const ban = { userId: person.id, banReason: `Grund ${newPerson().name}`, banExpiresIn: 3600 };
    const { user } = good(await auth.admin.banUser(ban));
    assert.deepEqual([user.banned, user.banReason], [true, ban.banReason]);
    assert.ok(user.banExpires.getTime() > Date.now());
    assert.equal(await isLive(world, token), false);
    assertRefused(await trySignIn(person), 403, 'BANNED_USER');
    assertRefused(await auth.admin.banUser({ userId: own.id }), 400, 'YOU_CANNOT_BAN_YOURSELF');

    assert.equal(good(await auth.admin.unbanUser({ userId: person.id })).user.banned, false);
    good(await trySignIn(person));
  });

  it('an admin acts as somebody, changes no credentials there, and goes back', async () => {
    const { auth, ...own } = await anAdmin();
    const person = await registerAndVerify(world);
    const { session, user } = good(await auth.admin.impersonateUser({ userId: person.id }));
    assert.deepEqual([user.id, session.impersonatedBy], [person.id, own.id]);
    assert.equal(good(await auth.getSession()).user.id, person.id);
    const change = { currentPassword: person.password, newPassword: newPerson().password };
    assertRefused(await auth.changePassword(change), 403, 'NOT_WHILE_IMPERSONATING');
    assertRefused(await auth.admin.listUsers({ query: {} }), 403, 'NOT_WHILE_IMPERSONATING');

    assert.equal(good(await auth.admin.stopImpersonating()).user.id, own.id);
    assert.equal(good(await auth.getSession()).session.token, own.token);
    assert.equal(await isLive(world, session.token), false);
    await login(world, person);
  });

  it('a password that an admin sets replaces the old one and ends all sessions', async () => {
    const { auth } = await anAdmin();
    const person = await registerAndVerify(world);
    const { token } = await signIn(world, person);
    const newPassword = newPerson().password;
    const set = (password) => auth.admin.setUserPassword({ userId: person.id, newPassword: password });
    assertRefused(await set('short'), 400, 'PASSWORD_TOO_SHORT');
    assert.deepEqual(good(await set(newPassword)), { status: true });
    assert.equal(await isLive(world, token), false);
    await assertNoLogin(world, person);
    await login(world, { ...person, password: newPassword });
    assert.equal((await world.mail.take(person.email)).subject, 'Dein Passwort wurde geändert — Mana');
  });

  it('an admin sees the sessions of somebody without their tokens, and ends one or all', async () => {
    const { auth } = await anAdmin();
    const person = await registerAndVerify(world);
    const [phone, tablet] = [await signIn(world, person), await signIn(world, person)];
    const { sessions } = good(await auth.admin.listUserSessions({ userId: person.id }));
    const of = ({ browser }) => sessions.find((session) => session.userAgent === browser.userAgent);
    // S-26
    for (const { token } of sessions) {
      assert.equal((await bearerClient(token, world.service.baseUrl).getSession()).data, null);
    }
    const sessionToken = of(phone).token;
    assert.deepEqual(good(await auth.admin.revokeUserSession({ sessionToken })), { success: true });
    assert.deepEqual([await isLive(world, phone.token), await isLive(world, tablet.token)], [false, true]);
    assert.deepEqual(good(await auth.admin.revokeUserSessions({ userId: person.id })), { success: true });
    assert.equal(await isLive(world, tablet.token), false);
    assert.deepEqual(good(await auth.admin.listUserSessions({ userId: person.id })).sessions, []);
  });

  it('S-89: an account that an admin removes leaves nothing of its owner', async () => {
    const { auth, ...own } = await anAdmin();
    const person = await registerAndVerify(world);
    const { browser, token } = await signIn(world, person);
    assertRefused(await auth.admin.removeUser({ userId: own.id }), 400, 'YOU_CANNOT_REMOVE_YOURSELF');
    assert.deepEqual(good(await auth.admin.removeUser({ userId: person.id })), { success: true });
    assert.equal(await isLive(world, token), false);
    await world.mail.take(person.email);
    await assertErased(world.service, person, browser);
    await assertNoLogin(world, person);
    assertRefused(await auth.admin.getUser({ query: { id: person.id } }), 404, 'USER_NOT_FOUND');
  });
}
