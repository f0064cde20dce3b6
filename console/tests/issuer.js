// A real OpenID Connect provider for the tests of signing in: `node console/tests/issuer.js SECONDS`. It prints its
// address; any name is signed in without a password. The client `console` gets tokens for an hour and refresh tokens,
// `forgetful` tokens for SECONDS and no refresh tokens.

import { createServer } from "node:http";
import Provider from "oidc-provider";

const HOUR = 3600;
const shortSeconds = Number(process.argv[2]);
const server = createServer();
await new Promise((resolve) => server.listen(0, "127.0.0.1", () => resolve(undefined)));
const address = `http://127.0.0.1:${/** @type {import("node:net").AddressInfo} */ (server.address()).port}`;

/**
 * @param {string} id
 * @param {string[]} grants
 */
function client(id, grants) {
  return {
    client_id: id,
    application_type: "native", // whatever port the console has
    token_endpoint_auth_method: "none",
    grant_types: ["authorization_code", ...grants],
    redirect_uris: ["http://127.0.0.1/sign-in"],
    post_logout_redirect_uris: ["http://127.0.0.1/"],
  };
}

/** @param {{ clientId: string } | undefined} client */
const tokenSeconds = (client) => (client?.clientId === "forgetful" ? shortSeconds : HOUR);

const provider = new Provider(address, {
  clients: [client("console", ["refresh_token"]), client("forgetful", [])],
  clientBasedCORS: () => true,
  pkce: { required: () => true },
  issueRefreshToken: (_, { clientId }) => clientId === "console",
  findAccount: (_, id) => ({ accountId: id, claims: () => ({ sub: id }) }),
  ttl: { IdToken: HOUR, Grant: HOUR, Session: HOUR, Interaction: HOUR, RefreshToken: HOUR },
  features: {
    revocation: { enabled: true },
    resourceIndicators: {
      enabled: true,
      defaultResource: () => "urn:stoker",
      useGrantedResource: () => true,
      getResourceServerInfo: (_context, _resource, client) => ({
        scope: "",
        audience: "stoker",
        accessTokenFormat: "jwt",
        accessTokenTTL: tokenSeconds(client),
        jwt: { sign: { alg: "RS256" } },
      }),
    },
  },
});
server.on("request", provider.callback());
console.log(address);
