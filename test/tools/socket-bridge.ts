/**
 * Joins stdin and stdout with a Unix socket: `node socket-bridge.ts PATH`. QEMU's `guestfwd` starts it for each
 * connection that a guest makes, so that a guest without a network reaches one socket of its host.
 */
import { createConnection } from 'node:net'

const [path] = process.argv.slice(2)
if (path === undefined) throw new Error('usage: socket-bridge.ts PATH')
const socket = createConnection({ path })
process.stdin.pipe(socket)
socket.pipe(process.stdout)
socket.on('close', () => process.exit(0))
socket.on('error', () => process.exit(1))
