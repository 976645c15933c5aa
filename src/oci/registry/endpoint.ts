/** Where a registry answers: its base URL, and when plain HTTP is good enough. */

import { isIPv4 } from 'node:net';
import { connect } from 'node:tls';
import { ImgstoreError } from '../../base/errors.ts';
import { dockerHub } from './reference.ts';

/** Docker's name of the Hub is not where its API is. */
const dockerHubApi = 'registry-1.docker.io';
/** A registry on this machine answers at once. */
const probeTimeoutMs = 5_000;

/** Of URL.hostname, which has written addresses in one way only. */
export function isLoopback(hostname: string): boolean {
  if (hostname === 'localhost' || hostname === '[::1]') return true;
  return isIPv4(hostname) && hostname.startsWith('127.');
}

/**
 * Plain HTTP if it is asked for; TLS otherwise, but of a loopback host that does not speak it, whose
 * traffic nobody else sees, plain HTTP as well.
 */
export async function registryUrl(host: string, options: { plainHttp: boolean }): Promise<URL> {
  const authority = host === dockerHub ? dockerHubApi : host;
  const secure = parseUrl(`https://${authority}/v2/`, host);
  const isPlain = options.plainHttp || (isLoopback(secure.hostname) && !(await speaksTls(secure)));
  return isPlain ? parseUrl(`http://${authority}/v2/`, host) : secure;
}

function parseUrl(text: string, host: string): URL {
  const url = URL.parse(text);
  if (url !== null) return url;
  throw new ImgstoreError('USAGE', `Cannot open docker://${host}: the host is malformed`, {
    hint: 'Write docker://HOST/REPO[:TAG|@DIGEST].',
  });
}

/** The certificate is judged when the connection is used. */
function speaksTls({ hostname, port }: URL): Promise<boolean> {
  const host = hostname.replace(/^\[|\]$/g, '');
  return new Promise(resolve => {
    const options = { host, port: Number(port || 443), rejectUnauthorized: false };
    const socket = connect(options);
    const end = (answer: boolean) => () => {
      resolve(answer);
      socket.destroy();
    };
    socket.setTimeout(probeTimeoutMs, end(false));
    socket.on('secureConnect', end(true));
    socket.on('error', end(false));
    socket.on('close', end(false));
  });
}
