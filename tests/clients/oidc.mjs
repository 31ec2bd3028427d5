// Two issuers of access tokens, by oidc-provider, a certified implementation of OpenID Connect.
//
// usage: node oidc.mjs NODE_MODULES
//
// Listens on loopback, on ports that the kernel assigns. The first line that it prints is what a
// server has to know of the issuers (the value of auth.issuers), the second their URLs. Ends with
// SIGTERM. The north signs with RS256 and names partitions and roles as they are here; the south
// signs with ES256, and has names of its own for both.

import { generateKeyPairSync } from 'node:crypto';
import { createServer } from 'node:http';
import { pathToFileURL } from 'node:url';

const [modules] = process.argv.slice(2);
const oidc = await import(pathToFileURL(`${modules}/oidc-provider/lib/index.js`));

const AUDIENCE = 'urn:collimator';
const SCOPES = 'dicom system/ImagingStudy.rs user/ImagingStudy.rs';

const ISSUERS = [
  {
    name: 'north',
    key: ['rsa', { modulusLength: 2048 }],
    algorithm: 'RS256',
    claims: { alice: { partitions: ['north'], roles: ['reader'] }, 'svc-north': { partitions: ['north'], roles: ['reader', 'writer'] } },
    settings: 'partition_claim = "partitions", roles_claim = "roles", authorized_parties = ["svc-north", "viewer"]',
  },
  {
    name: 'south',
    key: ['ec', { namedCurve: 'P-256' }],
    algorithm: 'ES256',
    claims: {
      alice: { tenant: '7', realm_access: { roles: ['radiologist'] } },
      'svc-south': { tenant: '7', realm_access: { roles: ['gateway'] } },
    },
    settings: 'partition_template = "clinic-{tenant}", roles_claim = "realm_access.roles", '
      + 'role_map = { radiologist = "reader", gateway = ["reader", "writer"] }',
  },
];

async function start({ name, key: [type, options], algorithm, claims, settings }) {
  const server = createServer();
  await new Promise((ready) => server.listen(0, '127.0.0.1', ready));
  const url = `http://127.0.0.1:${server.address().port}`;
  const key = generateKeyPairSync(type, options).privateKey.export({ format: 'jwk' });
  const service = (id, more) => ({
    client_id: id, client_secret: `secret of ${id}`, grant_types: ['client_credentials'],
    redirect_uris: [], response_types: [], scope: SCOPES, ...more,
  });
  const provider = new oidc.Provider(url, {
    jwks: { keys: [{ ...key, kid: 'signing', use: 'sig', alg: algorithm }] },
    clients: [
      service(`svc-${name}`),
      service('somebody'),
      {
        client_id: 'viewer', token_endpoint_auth_method: 'none', grant_types: ['authorization_code'],
        response_types: ['code'], redirect_uris: ['http://127.0.0.1:9/cb'], scope: `openid ${SCOPES}`,
        id_token_signed_response_alg: algorithm,
      },
    ],
    scopes: ['openid', ...SCOPES.split(' ')],
    features: {
      devInteractions: { enabled: true },
      clientCredentials: { enabled: true },
      resourceIndicators: {
        enabled: true,
        defaultResource: () => AUDIENCE,
        useGrantedResource: () => true,
        getResourceServerInfo: (_, resource) => ({
          scope: SCOPES, audience: resource, accessTokenFormat: 'jwt', accessTokenTTL: 600,
          jwt: { sign: { alg: algorithm } },
        }),
      },
    },
    extraTokenClaims: (_, token) => claims[token.accountId ?? token.clientId],
    findAccount: (_, id) => ({ accountId: id, claims: () => ({ sub: id }) }),
    pkce: { required: () => true },
    cookies: { keys: ['of no use but here'] },
  });
  server.on('request', provider.callback());
  const table = `{ name = "${name}", issuer = "${url}", audience = "${AUDIENCE}", ${settings} }`;
  return { url, table };
}

const started = await Promise.all(ISSUERS.map(start));
process.on('SIGTERM', () => process.exit(0));
console.log(`[${started.map(({ table }) => table).join(', ')}]`);
console.log(started.map(({ url }) => url).join(' '));
