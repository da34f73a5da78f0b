import { createServer, type Server } from 'node:net'
import { generateKeyPair } from '@libp2p/crypto/keys'
import { peerIdFromPrivateKey } from '@libp2p/peer-id'
import { multiaddr } from '@multiformats/multiaddr'
import { afterEach, describe, expect, test } from 'vitest'
import { Neighbourhood } from '../../../src/node/neighbourhood.ts'
import { type RowanPeer, startPeer } from '../../../src/node/peer.ts'

const PEER = '12D3KooWSxi87aiqEM5hCxqK55utTw6HZUErvPcvnDLXAeJFEKRW'
const PRINTER = `/ip4/192.168.1.9/tcp/9100/p2p/${PEER}`
const DAEMON = `/ip4/127.0.0.1/tcp/6379/p2p/${PEER}`
const HOST = `/dns4/printer.example/tcp/9100/p2p/${PEER}`
const PUBLIC = `/ip4/9.9.9.9/tcp/4001/p2p/${PEER}`

describe('a peer dials', () => {
  test('nothing private while it has met nobody but strangers', () => {
    const neighbourhood = new Neighbourhood()
    neighbourhood.met('/ip4/8.8.8.8/tcp/4001')
    expect([PUBLIC, PRINTER, DAEMON, HOST].map(a => neighbourhood.mayDial(a))).toEqual([true, false, false, false])
  })

  test('as near as it has met somebody, also after that one has left', () => {
    const neighbourhood = new Neighbourhood()
    neighbourhood.met('/ip4/192.168.1.2/tcp/50000')
    neighbourhood.met('/ip4/8.8.8.8/tcp/4001')
    expect([PUBLIC, PRINTER, DAEMON].map(a => neighbourhood.mayDial(a))).toEqual([true, true, false])
    neighbourhood.met('/ip4/127.0.0.1/tcp/50000')
    expect(neighbourhood.mayDial(DAEMON)).toBe(true)
  })

  test('what its owner has named, with a peer or without, and nothing beside it', () => {
    const neighbourhood = new Neighbourhood()
    neighbourhood.name(['/ip4/192.168.1.9/tcp/9100', HOST])
    expect([PRINTER, HOST, DAEMON].map(a => neighbourhood.mayDial(a))).toEqual([true, true, false])
    expect(neighbourhood.mayDial(PRINTER.replace('9100', '9101'))).toBe(false)
  })
})

describe('libp2p', () => {
  let peer: RowanPeer | undefined
  let door: Server | undefined
  afterEach(async () => {
    await peer?.stop()
    door?.close()
  })

  test('knocks at no private door that somebody has told it of', async () => {
    let knocks = 0
    door = createServer(socket => {
      knocks++
      socket.destroy()
    })
    const port = await new Promise<number>(resolve => {
      door!.listen(0, '127.0.0.1', () => resolve((door!.address() as { port: number }).port))
    })
    const neighbourhood = new Neighbourhood()
    const privateKey = await generateKeyPair('Ed25519')
    const mayDial = (address: string) => neighbourhood.mayDial(address)
    peer = await startPeer({ privateKey, listen: [], announce: [], dhtServer: false, maxPeers: 10, mayDial })
    // As the DHT and identify do: into the address book, then a dial by the peer's id.
    const stranger = peerIdFromPrivateKey(await generateKeyPair('Ed25519'))
    await peer.peerStore.merge(stranger, { multiaddrs: [multiaddr(`/ip4/127.0.0.1/tcp/${port}`)] })
    await expect(peer.dial(stranger)).rejects.toMatchObject({ name: 'DialDeniedError' })
    expect(knocks).toBe(0)
    neighbourhood.name([`/ip4/127.0.0.1/tcp/${port}`])
    await expect(peer.dial(stranger)).rejects.toThrow()
    expect(knocks).toBe(1)
  })
})
