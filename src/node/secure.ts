/**
 * Noise as libp2p speaks it, with less work for each message.
 *
 * On the wire nothing differs. Two things cost more than enciphering does, and are done otherwise here:
 *
 * - Node makes a key object of 32 bytes for each message, 16 to 20 µs each (a message of 64 KiB takes 33 µs without that). The two keys
 *   of a connection never change, so their objects are made once.
 * - The library writes a message to the socket in up to seven pieces, lengths and tags by themselves: as many system calls, and
 *   segments of two bytes, each of which wakes the other end. Here what is sent at once is one write.
 */
import { createSecretKey, type KeyObject } from 'node:crypto'
import type { Socket } from 'node:net'
import type { ConnectionEncrypter, MessageStream } from '@libp2p/interface'
import { type ICryptoInterface, noise } from '@libp2p/noise'
import { defaultCrypto, nodeCrypto } from '@libp2p/noise/crypto'

/** Below this the library's WebAssembly is faster than Node, which its authors measured. */
const MIN_NATIVE_BYTES = 1200

/** By the bytes of the key, which the library holds for as long as the connection lives. */
const keyObjects = new WeakMap<Uint8Array, KeyObject>()

/** What Node takes for a key as well, and the library passes on to it unseen. */
function objectOf(key: Uint8Array): Uint8Array {
  let object = keyObjects.get(key)
  if (object === undefined) {
    object = createSecretKey(key)
    keyObjects.set(key, object)
  }
  return object as unknown as Uint8Array
}

/** For Noise's messages. */
export const noiseCrypto: ICryptoInterface = {
  ...defaultCrypto,
  chaCha20Poly1305Encrypt(plaintext, nonce, ad, key) {
    if (plaintext.byteLength < MIN_NATIVE_BYTES) return defaultCrypto.chaCha20Poly1305Encrypt(plaintext, nonce, ad, key)
    return nodeCrypto.chaCha20Poly1305Encrypt(plaintext, nonce, ad, objectOf(key))
  },
  chaCha20Poly1305Decrypt(ciphertext, nonce, ad, key, target) {
    if (ciphertext.byteLength < MIN_NATIVE_BYTES) {
      return defaultCrypto.chaCha20Poly1305Decrypt(ciphertext, nonce, ad, key, target)
    }
    return nodeCrypto.chaCha20Poly1305Decrypt(ciphertext, nonce, ad, objectOf(key))
  }
}

type NoiseFactory = ReturnType<typeof noise>

/** An encrypter for libp2p. */
export function rowanNoise(): (components: Parameters<NoiseFactory>[0]) => ConnectionEncrypter {
  const factory = noise({ crypto: noiseCrypto })
  return components => {
    const encrypter: ConnectionEncrypter = factory(components)
    const secureInbound = encrypter.secureInbound.bind(encrypter)
    const secureOutbound = encrypter.secureOutbound.bind(encrypter)
    encrypter.secureInbound = (connection, options) => secureInbound(inOneWrite(connection), options)
    encrypter.secureOutbound = (connection, options) => secureOutbound(inOneWrite(connection), options)
    return encrypter
  }
}

/** The library's way from a connection to its socket, of which its types say nothing. */
interface SocketConnection {
  socket: Pick<
    Socket,
    'cork' | 'uncork' | 'write' | 'writable' | 'errored' | 'writableLength' | 'writableHighWaterMark'
  >
  sendData(pieces: Iterable<Uint8Array>): { sentBytes: number; canSendMore: boolean }
}

/** Has all that is sent at once go to the socket together. What is no socket, such as a connection over a relay, stays as it is. */
export function inOneWrite<Connection extends MessageStream>(connection: Connection): Connection {
  if (!('socket' in connection && 'sendData' in connection)) return connection
  const open = connection as unknown as SocketConnection
  const { socket } = open
  open.sendData = pieces => {
    let sentBytes = 0
    socket.cork()
    for (const piece of pieces) {
      socket.write(piece)
      sentBytes += piece.byteLength
    }
    socket.uncork()
    // Where it took no more, one of the writes has noted that, and `drain` comes; of a socket that is at its end, `close`.
    const isOpen = socket.writable && socket.errored === null
    return { sentBytes, canSendMore: isOpen && socket.writableLength < socket.writableHighWaterMark }
  }
  return connection
}
