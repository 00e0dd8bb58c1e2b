// Stands in for the credits service, which belongs to others: it says yes, or no as often as told, and remembers.
import { once } from 'node:events';
import { createServer } from 'node:http';
import { SERVICE_KEY } from './service.mjs';

export class Credits {
  constructor() {
    /** Every call of `POST /api/v1/internal/credits/init`: `{userId, status}`. */
    this.calls = [];
    this.refusals = 0;
    this.server = createServer(async (request, response) => {
      let text = '';
      for await (const chunk of request) text += chunk;
      const status = this.answer(request, text);
      response.writeHead(status, { 'content-type': 'application/json' }).end('{}');
    });
  }

  async start() {
    this.server.listen(0, '127.0.0.1');
    await once(this.server, 'listening');
    this.url = `http://127.0.0.1:${this.server.address().port}`;
  }

  stop() {
    this.server.close();
    this.server.closeAllConnections();
  }

  /** The next `count` calls get a 500. */
  refuse(count) {
    this.refusals = count;
  }

  answer(request, text) {
    if (request.method !== 'POST' || request.url !== '/api/v1/internal/credits/init') return 404;
    const { userId } = JSON.parse(text);
    let status = 200;
    if (request.headers['x-service-key'] !== SERVICE_KEY) status = 401;
    else if (this.refusals > 0) {
      this.refusals -= 1;
      status = 500;
    }
    this.calls.push({ userId, status });
    return status;
  }

  /** The answers that were given for one user, in order. */
  answersFor(userId) {
    return this.calls.filter((call) => call.userId === userId).map((call) => call.status);
  }
}
