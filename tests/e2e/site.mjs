// The web application that a real browser opens: pages on any sub-domain, each with the official client.
import { build } from 'esbuild';
import { once } from 'node:events';
import { createServer } from 'node:http';
import { fileURLToPath } from 'node:url';

export class Site {
  /** Serves pages whose client talks to the service at `authUrl`. */
  static async start(authUrl) {
    const bundle = await build({
      entryPoints: [fileURLToPath(new URL('page.mjs', import.meta.url))], bundle: true, format: 'iife', write: false,
    });
    const site = new Site();
    const script = bundle.outputFiles[0].text;
    const page = `<!doctype html><html data-auth="${authUrl}"><title>Page</title>
<input autocomplete="username webauthn"><script src="/page.js"></script>`;
    site.server = createServer((request, response) => {
      const [type, body] = request.url === '/page.js' ? ['text/javascript', script] : ['text/html', page];
      response.writeHead(200, { 'content-type': `${type}; charset=utf-8` }).end(body);
    }).listen(0, '127.0.0.1');
    await once(site.server, 'listening');
    return site;
  }

  /** The origin of the pages at `host`. */
  origin(host) {
    return `http://${host}:${this.server.address().port}`;
  }

  stop() {
    this.server.close();
    this.server.closeAllConnections();
  }
}
