"""Figures of RouteLLM's evaluation, by its own formulas with pandas and numpy: the fixture of replay's tests.

Run in crates/pilot: python reference/routellm.py
"""
import numpy as np, pandas as pd, json
def routellm(score, weak, strong):
    s=pd.Series(score)
    _,th=pd.qcut(s,10,retbins=True,duplicates='drop')
    res=[]
    for i,t in enumerate(th):
        sel=(s>=t) if i!=len(th)-1 else (s>t)
        acc=np.where(sel,strong,weak).sum()/len(s)*100
        res.append((sel.sum()/len(s)*100,acc))
    df=pd.DataFrame(res,columns=['p','a']).sort_values(by=['p'])
    wa,sa=np.mean(weak)*100,np.mean(strong)*100
    auc=np.trapezoid(df.a,df.p/100); w=np.trapezoid(np.full(len(df),wa),df.p/100); st=np.trapezoid(np.full(len(df),sa),df.p/100)
    c=[float(np.interp(q*(sa-wa)+wa,df.a,df.p)) for q in (.5,.8)]
    return (auc-w)/(st-w),c[0],c[1]
if __name__=='__main__':
    cases=[]
    for seed,(n,levels) in enumerate([(11,0),(70,0),(71,0),(101,0),(150,7),(200,3),(131,12)]):
        r=np.random.default_rng(seed)
        d=r.random(n)
        weak=(r.random(n)>d*.8).astype(int); strong=(r.random(n)>d*.3).astype(int)
        score=d*.3+r.random(n)
        score=np.floor(score*levels) if levels else np.floor(score*4096)/4096
        a=routellm(score,weak,strong)
        cases.append(dict(score=score.tolist(),weak=weak.tolist(),strong=strong.tolist(),apgr=a[0],cpt50=a[1],cpt80=a[2]))
        print(n,levels,a,np.mean(weak),np.mean(strong))
    # interp on curves that go up and down
    interp=[]
    r=np.random.default_rng(9)
    for n in (3,4,5,8,9,11,11,11,11,11,12,20):
        xs=(np.cumsum(r.random(n)-.35)); ys=np.linspace(0,1,n)
        for x in np.linspace(xs.min()-.1,xs.max()+.1,9): interp.append(dict(xs=xs.tolist(),ys=ys.tolist(),x=float(x),y=float(np.interp(x,xs,ys))))
    json.dump(dict(replay=cases,interp=interp),open('src/replay/routellm/pandas.json','w'))
