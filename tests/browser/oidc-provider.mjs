// A real OpenID provider on loopback, for the tests of signing in. Fresh keys at each start, as after a rotation.
//
//   node oidc-provider.mjs PORT TOOLS REDIRECT_URI LOGOUT_URI
import { createRequire } from 'node:module';
import { resolve } from 'node:path';
import { generateKeyPairSync, randomUUID } from 'node:crypto';
import { pathToFileURL } from 'node:url';

const [port, tools, redirect, logout] = process.argv.slice(2);
const require = createRequire(resolve(tools, 'package.json'));
const { default: Provider } = await import(pathToFileURL(require.resolve('oidc-provider')).href);
const key = generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey.export({ format: 'jwk' });
const people = {
  ana: { email: 'Ana@Example.com', email_verified: true },
  ben: { email: 'ben@example.com', email_verified: true },
  mallory: { email: 'ana@example.com', email_verified: false },
  // Another account, with the e-mail of somebody else.
  twin: { email: 'ana@example.com', email_verified: true },
  zoe: { email: 'zoe@example.com', email_verified: true },
};
const provider = new Provider(`http://127.0.0.1:${port}`, {
  clients: [{
    client_id: 'tidegate', client_secret: 'a secret+with/odd=characters', redirect_uris: [redirect],
    post_logout_redirect_uris: [logout], grant_types: ['authorization_code'],
  }],
  jwks: { keys: [{ ...key, kid: randomUUID(), use: 'sig', alg: 'RS256' }] },
  pkce: { required: () => true },
  features: { devInteractions: { enabled: true } },
  // What the token says of groups must not matter.
  claims: { openid: ['sub', 'groups'], profile: ['preferred_username'], email: ['email', 'email_verified'] },
  async findAccount(ctx, id) {
    return { accountId: id, claims: async () => ({ sub: id, preferred_username: id, groups: ['tidegate-admins'], ...people[id] }) };
  },
});
provider.listen(Number(port), '127.0.0.1', () => console.log('up'));
