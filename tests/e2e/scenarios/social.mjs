// Signing in by another provider with the official client, and the accounts that it links.
import assert from 'node:assert/strict';
import { it } from 'node:test';
import { generateKeyPair } from 'jose';
import { Browser } from '../browser.mjs';
import { assertRefused, clientIn, good, signIn } from '../clients.mjs';
import { assertLeads, newPerson, registerAndVerify } from '../people.mjs';
import { knownAs } from '../provider.mjs';
import { APP_ORIGIN } from '../service.mjs';

const CALLBACKS = {
  callbackURL: `${APP_ORIGIN}/in`,
  newUserCallbackURL: `${APP_ORIGIN}/new`,
  errorCallbackURL: `${APP_ORIGIN}/oops`,
};

export function social(world) {
  /** Begins to sign in; gives where the provider is. */
  const begin = async (browser) => {
    const auth = clientIn(browser, world.service.baseUrl);
    const { url, redirect } = good(await auth.signIn.social({ provider: world.provider.id, ...CALLBACKS }));
    assert.equal(redirect, true);
    return url;
  };

  /** Goes all the way in `browser` as `visitor` of the provider, and asserts where it ends. */
  const comeBy = async (browser, visitor, target) => {
    await assertLeads(browser, world.provider.agree(await begin(browser), visitor), target);
  };

  /** Links the account of `visitor` at the provider, and asserts where it ends. */
  const link = async ({ auth, browser }, visitor, target) => {
    const { url } = good(await auth.linkSocial({ provider: world.provider.id, ...CALLBACKS }));
    await assertLeads(browser, world.provider.agree(url, visitor), target);
  };

  const userIn = async (browser) => good(await clientIn(browser, world.service.baseUrl).getSession())?.user;

  it('somebody new gets an account, and comes back to it whatever their address is then', async () => {
    const person = newPerson();
    const visitor = knownAs(person);
    const browser = new Browser();
    await comeBy(browser, visitor, CALLBACKS.newUserCallbackURL);
    const user = await userIn(browser);
    assert.deepEqual(
      [user.email, user.emailVerified, user.name, user.image],
      [person.email, true, person.name, visitor.picture],
    );
    const again = new Browser();
    await comeBy(again, { ...visitor, email: newPerson().email }, CALLBACKS.callbackURL);
    assert.equal((await userIn(again)).id, user.id);

    const auth = clientIn(again, world.service.baseUrl);
    const [account, ...others] = good(await auth.listAccounts());
    assert.deepEqual(others, []);
    const { providerId, accountId, userId } = account;
    assert.deepEqual([providerId, accountId, userId], [world.provider.id, visitor.sub, user.id]);
    assert.deepEqual(new Set(account.scopes), new Set(['openid', 'email', 'profile']));
    assertRefused(await auth.unlinkAccount({ accountId: account.id }), 400, 'FAILED_TO_UNLINK_LAST_ACCOUNT');
  });

  it('a way back counts once, and in the browser that went', async () => {
    const visitor = knownAs(newPerson());
    const [browser, other] = [new Browser(), new Browser()];
    const back = world.provider.agree(await begin(browser), visitor);
    await assertLeads(other, back, `${CALLBACKS.errorCallbackURL}?error=state_mismatch`);
    await assertLeads(browser, back, CALLBACKS.newUserCallbackURL);
    await assertLeads(browser, back, `${world.service.baseUrl}/api/auth/error?error=state_mismatch`);
    assert.equal(await userIn(other), undefined);
  });

  it('nobody gets in who declines, or whose address the provider does not vouch for', async () => {
    const browser = new Browser();
    const declined = world.provider.decline(await begin(browser));
    await assertLeads(browser, declined, `${CALLBACKS.errorCallbackURL}?error=access_denied`);
    // S-67: neither by a new account nor by the one that the address has.
    const { email, name } = await registerAndVerify(world);
    for (const person of [newPerson(), { email, name }]) {
      const visitor = { ...knownAs(person), email_verified: false };
      await comeBy(browser, visitor, `${CALLBACKS.errorCallbackURL}?error=email_not_verified`);
    }
    assert.equal(await userIn(browser), undefined);
  });

  it('somebody links an account of theirs, uses its tokens, and takes it away', async () => {
    const person = await registerAndVerify(world);
    const here = await signIn(world, person);
    const { auth } = here;
    await link(here, knownAs(newPerson()), `${CALLBACKS.errorCallbackURL}?error=email_does_not_match`);
    const visitor = knownAs(person);
    await link(here, visitor, CALLBACKS.callbackURL);
    const accounts = good(await auth.listAccounts());
    const providers = new Set(accounts.map((account) => account.providerId));
    assert.deepEqual(providers, new Set(['credential', world.provider.id]));
    const { id: accountId } = accounts.find((account) => account.providerId !== 'credential');

    const info = good(await auth.accountInfo({ query: { accountId } }));
    assert.deepEqual([info.user.id, info.user.email, info.data.sub], [visitor.sub, person.email, visitor.sub]);
    assert.deepEqual(info.account, { id: accountId, providerId: world.provider.id, accountId: visitor.sub });
    const first = good(await auth.getAccessToken({ accountId }));
    assert.ok(world.provider.accessTokens.has(first.accessToken));
    assert.ok(first.accessTokenExpiresAt.getTime() > Date.now());
    const renewed = good(await auth.refreshToken({ accountId }));
    assert.ok(world.provider.refreshTokens.has(renewed.refreshToken));
    assert.notEqual(renewed.accessToken, first.accessToken);
    assert.equal(good(await auth.getAccessToken({ accountId })).accessToken, renewed.accessToken);

    const { auth: stranger } = await signIn(world, await registerAndVerify(world));
    for (const ask of ['getAccessToken', 'refreshToken', 'unlinkAccount']) {
      assertRefused(await stranger[ask]({ accountId }), 400, 'ACCOUNT_NOT_FOUND');
    }
    assert.deepEqual(good(await auth.unlinkAccount({ accountId })), { status: true });
    assert.deepEqual(good(await auth.listAccounts()).map((account) => account.providerId), ['credential']);
    assertRefused(await auth.getAccessToken({ accountId }), 400, 'ACCOUNT_NOT_FOUND');
  });

  it('an access token that is nearly over is renewed when somebody asks for it', async () => {
    const browser = new Browser();
    world.provider.lasts = 2;
    await comeBy(browser, knownAs(newPerson()), CALLBACKS.newUserCallbackURL);
    world.provider.lasts = 3600;
    const auth = clientIn(browser, world.service.baseUrl);
    const [{ id: accountId }] = good(await auth.listAccounts());
    const { accessTokenExpiresAt } = good(await auth.getAccessToken({ accountId }));
    assert.ok(accessTokenExpiresAt.getTime() > Date.now() + 3000_000);
  });

  it('an ID token that a native application was given signs in by itself', async () => {
    const person = newPerson();
    const [visitor, nonce] = [knownAs(person), 'nonce-of-the-application'];
    const auth = clientIn(new Browser(), world.service.baseUrl);
    const show = (token, shown) => auth.signIn.social({
      provider: world.provider.id, idToken: { token, ...shown && { nonce: shown } },
    });
    const token = await world.provider.idToken(visitor, nonce);
    const { privateKey: key } = await generateKeyPair('RS256');
    const forged = await world.provider.idToken(visitor, nonce, { key });
    for (const [bad, shown] of [[token, undefined], [token, 'another'], [forged, nonce]]) {
      assertRefused(await show(bad, shown), 401, 'INVALID_TOKEN');
    }
    const { user } = good(await show(token, nonce));
    assert.deepEqual([user.email, user.emailVerified], [person.email, true]);
    assert.equal(good(await auth.getSession()).user.id, user.id);
  });
}
