/**
 * Proxies in a process of their own: what they do to connections takes the time that they say, however
 * busy the test is, and no more.
 */

import { FaultProxy, type Fault as HttpFault } from './fault-proxy.ts';
import { answerCalls, RemoteProcess } from './remote-calls.ts';
import { type ConnectionFault, TcpProxy } from './tcp-proxy.ts';

/** One that can be sent to another process. */
export type TcpFault = Exclude<ConnectionFault, { do: 'garbage' }> | { do: 'garbage' };
/** What is done to requests in their order, and again from the first; null: the request passes. */
export type HttpFaults = readonly (HttpFault | null)[];

export interface RemoteTcpProxy {
  host: string;
  port: number;
  /** Undefined: all passes. */
  setFault(fault: TcpFault | undefined): Promise<void>;
}

/** Before an HTTP service: faults of connections before those of requests. */
export interface RemoteStoreProxy extends RemoteTcpProxy {
  setHttpFaults(faults: HttpFaults): Promise<void>;
}

export class Proxies {
  readonly #process = new RemoteProcess(import.meta.filename);

  async tcp({ host, port: targetPort }: { host: string; port: number }): Promise<RemoteTcpProxy> {
    const port = (await this.#process.call('tcp', { host, port: targetPort })) as number;
    return {
      host: '127.0.0.1',
      port,
      setFault: async fault => void (await this.#process.call('tcpFault', port, fault ?? null)),
    };
  }

  async store(endpoint: string): Promise<RemoteStoreProxy> {
    const httpPort = (await this.#process.call('http', endpoint)) as number;
    return {
      ...(await this.tcp({ host: '127.0.0.1', port: httpPort })),
      setHttpFaults: async faults =>
        void (await this.#process.call('httpFaults', httpPort, faults)),
    };
  }

  close(): Promise<void> {
    return this.#process.close();
  }
}

function main(): void {
  const context = { after: () => {} };
  const tcp = new Map<number, TcpProxy>();
  const http = new Map<number, FaultProxy>();
  const noise = Buffer.alloc(300, 'no answer at all\r\n');
  answerCalls({
    tcp: async (target: { host: string; port: number }) => {
      const proxy = await TcpProxy.start(context, target);
      tcp.set(proxy.port, proxy);
      return proxy.port;
    },
    tcpFault: (port: number, fault: TcpFault | null) => {
      tcp.get(port)!.fault =
        fault?.do === 'garbage' ? { ...fault, bytes: () => noise } : (fault ?? undefined);
    },
    http: async (endpoint: string) => {
      const proxy = await FaultProxy.start(context, endpoint);
      const { port } = new URL(proxy.endpoint);
      http.set(Number(port), proxy);
      return Number(port);
    },
    httpFaults: (port: number, faults: HttpFaults) => {
      const proxy = http.get(port)!;
      let asked = 0;
      proxy.plan = () => {
        proxy.requests.length = 0;
        return faults[asked++ % faults.length] ?? undefined;
      };
    },
  });
}

if (import.meta.main) main();
