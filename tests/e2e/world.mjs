// A running service and the real and pretended parts around it.
import { Credits } from './credits.mjs';
import { Service } from './service.mjs';
import { MailServer } from './smtp.mjs';

/** Starts everything; `tls` says how the service reaches its SMTP server, `settings` what else is not as usual. */
export async function startWorld(tls, settings = {}) {
  const mail = await MailServer.create(tls);
  await mail.start();
  const credits = new Credits();
  await credits.start();
  const service = await Service.create({ ...mail.settings, MANA_CREDITS_URL: credits.url, ...settings });
  const world = { mail, credits, service, registered: new Set() };
  try {
    await service.start();
  } catch (failure) {
    await stopWorld(world);
    throw failure;
  }
  return world;
}

/** Ends everything, also after failures. */
export async function stopWorld({ mail, credits, service }) {
  await service.dispose();
  credits.stop();
  await mail.dispose();
}
