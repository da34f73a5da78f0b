/**
 * Which packets of a guest may leave it: those for other hosts.
 *
 * passt opens a connection to whatever address a packet names, 127.0.0.1 included (measured with passt of 2023-03, with
 * `--no-map-gw` and with an outbound interface), so a hostile guest could reach what listens on the host's loopback.
 * Every frame from the guest is looked at: one for a loopback, unspecified or own address of the host is dropped, and
 * so is every kind of frame that is neither ARP nor plain IP.
 *
 * Frames are length-prefixed as on QEMU's `-netdev stream` (4 bytes, big endian).
 */
import { BlockList, isIPv6 } from 'node:net'
import { RowanError } from '../errors.ts'

/** Larger than any Ethernet frame with passt's largest MTU (65,520 + header). */
export const MAX_FRAME_BYTES = 65_536 + 64
const LENGTH_BYTES = 4
const ETHERNET_HEADER_BYTES = 14
const ETHERTYPE = { ipv4: 0x0800, arp: 0x0806, ipv6: 0x86dd }
const IPV4_DESTINATION_AT = 16
const IPV6_DESTINATION_AT = 24

/** Two lists, because a BlockList compares every IPv4 address with the IPv6 block that all of them are mapped into. */
export interface Forbidden {
  ipv4: BlockList
  ipv6: BlockList
}

/** The addresses that no guest may reach: the host itself, by any name. */
export function forbiddenAddresses(own: readonly string[]): Forbidden {
  const ipv4 = new BlockList()
  ipv4.addSubnet('127.0.0.0', 8)
  ipv4.addSubnet('0.0.0.0', 8)
  const ipv6 = new BlockList()
  // The loopback, the unspecified address, and IPv4 inside IPv6 in its forms: no honest packet has such a destination.
  ipv6.addSubnet('::', 96, 'ipv6')
  ipv6.addSubnet('::ffff:0:0', 96, 'ipv6')
  ipv6.addSubnet('64:ff9b::', 96, 'ipv6')
  for (const address of own) {
    if (isIPv6(address)) ipv6.addAddress(address, 'ipv6')
    else ipv4.addAddress(address)
  }
  return { ipv4, ipv6 }
}

/** Whether a frame of the guest may pass. */
export function mayLeave(frame: Buffer, forbidden: Forbidden): boolean {
  if (frame.length < ETHERNET_HEADER_BYTES) return false
  const packet = frame.subarray(ETHERNET_HEADER_BYTES)
  switch (frame.readUInt16BE(ETHERNET_HEADER_BYTES - 2)) {
    case ETHERTYPE.arp:
      return true
    case ETHERTYPE.ipv4:
      if (packet.length < 20 || packet[0]! >> 4 !== 4) return false
      return !forbidden.ipv4.check(packet.subarray(IPV4_DESTINATION_AT, IPV4_DESTINATION_AT + 4).join('.'))
    case ETHERTYPE.ipv6:
      if (packet.length < 40 || packet[0]! >> 4 !== 6) return false
      return !forbidden.ipv6.check(ipv6Text(packet.subarray(IPV6_DESTINATION_AT, IPV6_DESTINATION_AT + 16)), 'ipv6')
    default:
      return false
  }
}

function ipv6Text(bytes: Buffer): string {
  return Array.from({ length: 8 }, (_, index) => bytes.readUInt16BE(index * 2).toString(16)).join(':')
}

/** Cuts a stream into frames, and gives on those that may pass with their length in front. */
export class FrameFilter {
  readonly #forbidden: () => Forbidden
  #pending: Buffer = Buffer.alloc(0)
  droppedFrames = 0

  /** @param forbidden - asked for each chunk, because the host's addresses change */
  constructor(forbidden: () => Forbidden) {
    this.#forbidden = forbidden
  }

  /**
   * @returns the frames that were completed by `chunk` and may leave, in one buffer
   * @throws RowanError LIMIT_EXCEEDED when a frame is longer than any can be
   */
  push(chunk: Buffer): Buffer {
    const forbidden = this.#forbidden()
    const bytes = this.#pending.length === 0 ? chunk : Buffer.concat([this.#pending, chunk])
    const passed: Buffer[] = []
    let at = 0
    while (bytes.length - at >= LENGTH_BYTES) {
      const lengthBytes = bytes.readUInt32BE(at)
      if (lengthBytes > MAX_FRAME_BYTES) {
        throw new RowanError('LIMIT_EXCEEDED', `a frame of ${lengthBytes} bytes; ${MAX_FRAME_BYTES} are allowed`)
      }
      const end = at + LENGTH_BYTES + lengthBytes
      if (end > bytes.length) break
      if (mayLeave(bytes.subarray(at + LENGTH_BYTES, end), forbidden)) passed.push(bytes.subarray(at, end))
      else this.droppedFrames++
      at = end
    }
    this.#pending = Buffer.from(bytes.subarray(at))
    return Buffer.concat(passed)
  }
}
