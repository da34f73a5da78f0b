/**
 * The asking side of /rowan/directory/1.0.0: one request to one holder, with a time-out for each step.
 *
 * Opens one stream for each request: control traffic only, a few streams for each search.
 */

import type { Connection, Stream } from '@libp2p/interface'
import { peerIdFromString } from '@libp2p/peer-id'
import { multiaddr } from '@multiformats/multiaddr'
import { PROTOCOL } from '../cluster.ts'
import { withDeadline } from '../deadline.ts'
import type { Clock } from '../environment.ts'
import { asRowanError, RowanError } from '../errors.ts'
import { type Reach, reachMet } from './addresses.ts'
import type { DirectoryNetwork } from './directory-network.ts'
import { ANSWER_TIMEOUT_MS, DIAL_TIMEOUT_MS } from './limits.ts'
import {
  type DirectoryRequest,
  type DirectoryResponse,
  decodeResponse,
  encodeRequest,
  messagesOf,
  readMessage,
  STATUS
} from './messages.ts'
import type { CloserPeer } from './routing.ts'

export interface HolderAnswer {
  response: DirectoryResponse
  /** How the holder was met: what it says of private addresses counts only from nearby. */
  met: Reach
}

export class DirectoryClient {
  readonly #network: Pick<DirectoryNetwork, 'dial' | 'getConnections'>
  readonly #clock: Clock

  constructor(components: { network: Pick<DirectoryNetwork, 'dial' | 'getConnections'>; clock: Clock }) {
    this.#network = components.network
    this.#clock = components.clock
  }

  /**
   * @throws TIMEOUT_DIAL, TIMEOUT_RESPONSE, PEER_GONE, WIRE_INVALID (an answer that cannot be read), DIRECTORY_REFUSED
   * (the holder is busy, or does not understand), ABORTED (by the signal)
   */
  async ask(
    holder: CloserPeer,
    request: Partial<DirectoryRequest>,
    options: { signal?: AbortSignal } = {}
  ): Promise<HolderAnswer> {
    const { signal } = options
    let connection: Connection
    try {
      connection = await withDeadline(this.#clock, DIAL_TIMEOUT_MS, signal, 'TIMEOUT_DIAL', s => this.#dial(holder, s))
    } catch (error) {
      throw asRowanError(error, 'PEER_GONE', `${holder.peer} cannot be reached`)
    }
    try {
      const response = await withDeadline(this.#clock, ANSWER_TIMEOUT_MS, signal, 'TIMEOUT_RESPONSE', s =>
        exchange(connection, encodeRequest(request), s)
      )
      checkStatus(holder.peer, response)
      return { response, met: reachMet(connection.remoteAddr.toString()) }
    } catch (error) {
      throw asRowanError(error, 'PEER_GONE', `${holder.peer} left without an answer`)
    }
  }

  async #dial(holder: CloserPeer, signal: AbortSignal): Promise<Connection> {
    const peerId = peerIdFromString(holder.peer)
    // Through a relay nothing is asked: a holder is one that can be dialled.
    const isUsable = ({ status, limits }: Connection) => status === 'open' && limits === undefined
    const open = this.#network.getConnections(peerId).find(isUsable)
    if (open !== undefined) return open
    // Without addresses libp2p looks into its address book.
    if (holder.addresses.length === 0) return this.#network.dial(peerId, { signal })
    const targets = holder.addresses.map(address =>
      multiaddr(address.endsWith(`/p2p/${holder.peer}`) ? address : `${address}/p2p/${holder.peer}`)
    )
    return this.#network.dial(targets, { signal })
  }
}

async function exchange(connection: Connection, request: Uint8Array, signal: AbortSignal): Promise<DirectoryResponse> {
  const stream: Stream = await connection.newStream(PROTOCOL.directory, { signal })
  try {
    const messages = messagesOf(stream)
    await messages.write(request, { signal })
    const response = decodeResponse(await readMessage(messages, signal))
    await stream.close({ signal })
    return response
  } catch (error) {
    stream.abort(asRowanError(error, 'PEER_GONE'))
    throw error
  }
}

function checkStatus(peer: string, response: DirectoryResponse): void {
  if (response.status === STATUS.done) return
  const why = response.status === STATUS.busy ? 'is busy' : `did not understand the request (${response.status})`
  throw new RowanError('DIRECTORY_REFUSED', `the holder ${peer} ${why}`)
}
