/**
 * Ethernet frames as a guest could send them.
 */
import { SocketAddress } from 'node:net'

const MACS = Buffer.from('02fc00000001525400123456', 'hex')
export const GUEST_ADDRESS = '192.0.2.77'

function ethernet(type: number, payload: Buffer): Buffer {
  const header = Buffer.alloc(14)
  MACS.copy(header)
  header.writeUInt16BE(type, 12)
  return Buffer.concat([header, payload])
}

/** With its length in front, as on QEMU's stream. */
export function framed(frame: Buffer): Buffer {
  const length = Buffer.alloc(4)
  length.writeUInt32BE(frame.length)
  return Buffer.concat([length, frame])
}

/** Who has 192.0.2.1? passt answers for every address but the guest's. */
export function arpFrame(): Buffer {
  const source = MACS.subarray(6)
  const question = Buffer.from([0, 1, 8, 0, 6, 4, 0, 1])
  const target = [Buffer.alloc(6), ipv4Bytes('192.0.2.1')]
  return ethernet(0x0806, Buffer.concat([question, source, ipv4Bytes(GUEST_ADDRESS), ...target]))
}

function ipv4Bytes(address: string): Buffer {
  return Buffer.from(address.split('.').map(Number))
}

/** The Internet checksum, RFC 1071. */
function checksum(bytes: Buffer): number {
  let sum = 0
  for (let at = 0; at < bytes.length; at += 2) sum += (bytes[at]! << 8) | (bytes[at + 1] ?? 0)
  while (sum >>> 16 !== 0) sum = (sum & 0xffff) + (sum >>> 16)
  return ~sum & 0xffff
}

/** A TCP SYN. */
export function ipv4Frame(destination: string, port = 80, source = GUEST_ADDRESS): Buffer {
  const tcp = Buffer.alloc(20)
  tcp.writeUInt16BE(40_000, 0)
  tcp.writeUInt16BE(port, 2)
  tcp.writeUInt32BE(1, 4)
  tcp[12] = 0x50
  tcp[13] = 0x02
  tcp.writeUInt16BE(65_535, 14)
  const addresses = Buffer.concat([ipv4Bytes(source), ipv4Bytes(destination)])
  tcp.writeUInt16BE(checksum(Buffer.concat([addresses, Buffer.from([0, 6, 0, tcp.length]), tcp])), 16)
  const ip = Buffer.alloc(20)
  ip[0] = 0x45
  ip.writeUInt16BE(ip.length + tcp.length, 2)
  ip[8] = 64
  ip[9] = 6
  addresses.copy(ip, 12)
  ip.writeUInt16BE(checksum(ip), 10)
  return ethernet(0x0800, Buffer.concat([ip, tcp]))
}

/** Only a header; nobody looks further. */
export function ipv6Frame(destination: string): Buffer {
  const ip = Buffer.alloc(40)
  ip[0] = 0x60
  ipv6Bytes(destination).copy(ip, 24)
  return ethernet(0x86dd, ip)
}

function ipv6Bytes(text: string): Buffer {
  const { address } = new SocketAddress({ address: text, family: 'ipv6' })
  const dotted = address.replace(/(\d+)\.(\d+)\.(\d+)\.(\d+)$/, (_all, a, b, c, d) =>
    [Number(a) * 256 + Number(b), Number(c) * 256 + Number(d)].map(part => part.toString(16)).join(':')
  )
  const [head = '', tail] = dotted.split('::')
  const parts = (side: string) => side.split(':').filter(part => part !== '')
  const zeros = tail === undefined ? 0 : 8 - parts(head).length - parts(tail).length
  const all = [...parts(head), ...Array.from({ length: zeros }, () => '0'), ...parts(tail ?? '')]
  const bytes = Buffer.alloc(16)
  all.forEach((part, index) => {
    bytes.writeUInt16BE(Number.parseInt(part, 16), index * 2)
  })
  return bytes
}
