/**
 * Where a machine's disk is served over TCP, beside its socket: always behind TLS.
 */
import { isIPv6 } from 'node:net'
import { RowanError } from '../errors.ts'

export interface TcpAddress {
  /** A name or an address, an IPv6 one without brackets. */
  host: string
  port: number
}

/** Reached from this host alone, unless its owner says otherwise. */
const DEFAULT_HOST = '127.0.0.1'
const MAX_PORT = 65_535

/**
 * PORT, HOST:PORT or [IPV6]:PORT.
 *
 * @throws RowanError TCP_ADDRESS_INVALID
 */
export function parseTcpAddress(text: string): TcpAddress {
  const [, brackets, name, digits] = /^(?:(?:\[([^\]]+)\]|([^:[\]\s]+)):)?(\d{1,5})$/.exec(text) ?? []
  const port = Number(digits)
  const isValid = digits !== undefined && port >= 1 && port <= MAX_PORT
  if (!isValid || (brackets !== undefined && !isIPv6(brackets))) {
    throw new RowanError('TCP_ADDRESS_INVALID', `"${text}" is not PORT, HOST:PORT or [IPV6]:PORT`)
  }
  return { host: brackets ?? name ?? DEFAULT_HOST, port }
}

export function sameTcp(one: TcpAddress | undefined, other: TcpAddress | undefined): boolean {
  return one?.host === other?.host && one?.port === other?.port
}

/** An NBD URI; whoever uses it adds what TLS needs. */
export function tcpUri(name: string, { host, port }: TcpAddress): string {
  return `nbds://${isIPv6(host) ? `[${host}]` : host}:${port}/${name}`
}
