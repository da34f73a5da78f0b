import { describe, expect, test } from 'vitest'
import {
  bareAddress,
  hostOf,
  mayDial,
  networkOf,
  REACH,
  reachMet,
  reachOf,
  relayOf
} from '../../../src/directory/addresses.ts'

const PEER = '12D3KooWSxi87aiqEM5hCxqK55utTw6HZUErvPcvnDLXAeJFEKRW'
const OTHER = '12D3KooWPv9JYcRtUoZt8WoKauZw8GqQw3m8FVsMRe6qZJnAP2vi'

describe('how close one must be to use an address', () => {
  test.each([
    ['/ip4/8.8.8.8/tcp/1', REACH.public],
    ['/ip6/2a00:1450::1/tcp/1', REACH.public],
    ['/ip6/::ffff:8.8.8.8/tcp/1', REACH.public],
    ['/ip4/10.1.2.3/tcp/1', REACH.private],
    ['/ip4/192.168.1.9/tcp/1', REACH.private],
    ['/ip4/172.31.255.255/tcp/1', REACH.private],
    ['/ip4/100.64.0.1/tcp/1', REACH.private],
    ['/ip4/169.254.169.254/tcp/80', REACH.private],
    ['/ip4/224.0.0.1/tcp/1', REACH.private],
    ['/ip6/fe80::1/tcp/1', REACH.private],
    ['/ip6/fd00::1/tcp/1', REACH.private],
    ['/ip6/::ffff:192.168.1.9/tcp/1', REACH.private],
    // NAT64 and 6to4 carry an IPv4 address inside.
    ['/ip6/64:ff9b::7f00:1/tcp/1', REACH.private],
    ['/ip6/2002:7f00:1::/tcp/1', REACH.private],
    ['/ip4/127.0.0.1/tcp/1', REACH.loopback],
    ['/ip4/127.9.9.9/tcp/1', REACH.loopback],
    ['/ip4/0.0.0.0/tcp/1', REACH.loopback],
    ['/ip6/::1/tcp/1', REACH.loopback],
    ['/ip6/::/tcp/1', REACH.loopback],
    ['/ip6/::ffff:127.0.0.1/tcp/1', REACH.loopback],
    ['/dns4/example.org/tcp/1', REACH.loopback],
    ['/unix/run%2Fx.sock', REACH.loopback],
    ['nonsense', REACH.loopback],
    ['', REACH.loopback]
  ])('%s', (address, reach) => {
    expect(reachOf(address)).toBe(reach)
  })

  test('an announcer met over the Internet opens no door to a private address', () => {
    const met = reachMet('/ip4/8.8.8.8/tcp/4001')
    expect(mayDial('/ip4/9.9.9.9/tcp/1', met)).toBe(true)
    expect(mayDial('/ip4/192.168.1.9/tcp/1', met)).toBe(false)
    expect(mayDial('/ip4/127.0.0.1/tcp/1', met)).toBe(false)
  })

  test('one met on the local network opens that network, but not the loopback', () => {
    const met = reachMet('/ip4/192.168.1.7/tcp/4001')
    expect(mayDial('/ip4/192.168.1.9/tcp/1', met)).toBe(true)
    expect(mayDial('/ip4/127.0.0.1/tcp/1', met)).toBe(false)
    expect(mayDial('/ip4/127.0.0.1/tcp/1', reachMet('/ip4/127.0.0.1/tcp/5'))).toBe(true)
  })

  test('one met over a relay, or who knows how, could be anybody', () => {
    expect(reachMet(`/ip4/127.0.0.1/tcp/1/p2p/${OTHER}/p2p-circuit/p2p/${PEER}`)).toBe(REACH.public)
    expect(reachMet('/unix/x')).toBe(REACH.public)
    expect(reachMet('nonsense')).toBe(REACH.public)
  })
})

describe('an announced address as it is kept', () => {
  test('without the id of its own peer', () => {
    expect(bareAddress(`/ip4/1.2.3.4/tcp/5/p2p/${PEER}`, PEER)).toBe('/ip4/1.2.3.4/tcp/5')
    expect(bareAddress('/ip6/2a00::1/udp/5/quic-v1', PEER)).toBe('/ip6/2a00::1/udp/5/quic-v1')
    expect(bareAddress('/dns4/example.org/tcp/5/wss', PEER)).toBe('/dns4/example.org/tcp/5/wss')
    const relayed = `/ip6/2a00:1234:5678:9abc:def0:1234:5678:9abc/tcp/65535/p2p/${OTHER}/p2p-circuit`
    expect(bareAddress(`${relayed}/p2p/${PEER}`, PEER)).toBe(relayed)
    expect(bareAddress(relayed, PEER)).toBe(relayed)
  })

  test.each([
    ['another peer', `/ip4/1.2.3.4/tcp/5/p2p/${OTHER}`],
    ['a relay for another', `/ip4/1.2.3.4/tcp/5/p2p/${PEER}/p2p-circuit/p2p/${OTHER}`],
    ['itself as its relay', `/ip4/1.2.3.4/tcp/5/p2p/${PEER}/p2p-circuit/p2p/${PEER}`],
    ['two relays', `/ip4/1.2.3.4/tcp/5/p2p/${OTHER}/p2p-circuit/p2p/${OTHER}/p2p-circuit/p2p/${PEER}`],
    ['a relay without its address', `/p2p/${OTHER}/p2p-circuit/p2p/${PEER}`],
    ['a relay without its id', `/ip4/1.2.3.4/tcp/5/p2p-circuit/p2p/${PEER}`],
    ['a relay behind two hosts', `/ip4/1.2.3.4/tcp/5/ip4/127.0.0.1/tcp/6/p2p/${OTHER}/p2p-circuit/p2p/${PEER}`],
    ['a second host', '/ip4/1.2.3.4/tcp/5/ip4/127.0.0.1/tcp/6'],
    ['no port', '/ip4/1.2.3.4'],
    ['a file', '/unix/etc'],
    ['no address', 'nonsense'],
    ['nothing', ''],
    ['too long a name', `/dns4/${'a'.repeat(200)}/tcp/5`]
  ])('none that names %s', (_what, address) => {
    expect(bareAddress(address, PEER)).toBeUndefined()
  })

  test('may be used as its relay may', () => {
    const met = reachMet('/ip4/8.8.8.8/tcp/1')
    expect(mayDial(`/ip4/9.9.9.9/tcp/5/p2p/${OTHER}/p2p-circuit/p2p/${PEER}`, met)).toBe(true)
    expect(mayDial(`/ip4/192.168.1.9/tcp/9100/p2p/${OTHER}/p2p-circuit/p2p/${PEER}`, met)).toBe(false)
    expect(mayDial(`/p2p/${OTHER}/p2p-circuit/p2p/${PEER}`, met)).toBe(false)
  })

  test('names its relay', () => {
    expect(relayOf(`/ip4/9.9.9.9/tcp/5/p2p/${OTHER}/p2p-circuit/p2p/${PEER}`)).toBe(OTHER)
    expect(relayOf(`/ip4/9.9.9.9/tcp/5/p2p/${OTHER}`)).toBeUndefined()
    expect(relayOf('nonsense')).toBeUndefined()
  })

  test('its host', () => {
    expect(hostOf('/ip4/1.2.3.4/tcp/5')).toBe('1.2.3.4')
  })

  test('who it is for limits: an IPv4 address, a /64, a name', () => {
    expect(networkOf('/ip4/1.2.3.4/tcp/5')).toBe('1.2.3.4')
    expect(networkOf('/ip6/::ffff:1.2.3.4/tcp/5')).toBe('1.2.3.4')
    expect(networkOf('/ip6/2a00:1450:0:1::5/tcp/5')).toBe(networkOf('/ip6/2a00:1450::1:ffff:1:2:3/tcp/9'))
    expect(networkOf('/ip6/2a00:1450:0:1::5/tcp/5')).not.toBe(networkOf('/ip6/2a00:1450:0:2::5/tcp/5'))
    expect(networkOf('/dns4/example.org/tcp/5')).toBe('example.org')
  })
})
